"""What is exported is what was trained, from any number of ranks and any place; anything else is refused by name."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checkpoint import CheckpointConfig
from mrpo.errors import ConfigError, MrpoError
from mrpo.export.choose import choose
from mrpo.export.error import ExportError
from mrpo.export.model import Options, export
from mrpo.export.origin import ORIGIN
from mrpo.export.saved_model import SavedModel
from mrpo.record.run_folder import RunFolder
from tests.unit.checkpoint.objects import URL, emptied
from tests.unit.checkpoint.ranks import Trainer, run

from .runs import exported, loaded, log_probs, make_run, save_plain, saving, tensors_of

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:torch.distributed is disabled")]

CLONE_NEWNS = 0x20000
NORM, GATE = "model.norm.weight", "model.layers.1.mlp.gate_proj.weight"


def save_on_rank(rank: int, folder: Path) -> Any:
    trainer = Trainer(seed=1, ranks=3)
    trainer.train(1)
    trainer.state.save(folder)
    return log_probs(trainer.model).tolist()


def test_three_ranks_leave_the_model_that_they_trained(tmp_path: Path) -> None:
    states: list[Any] = []
    done = make_run(tmp_path / "run", lambda folder: states.extend(run(3, save_on_rank, folder)), 4)
    written = exported(done)
    assert (written.step, written.dtype, written.skipped) == (4, "float32", [])
    model = loaded(tmp_path / "model")
    trained = torch.tensor(states[0])
    assert model.dtype == torch.float32
    assert torch.equal(log_probs(model), trained)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in load_file(tmp_path / "model" / "model.safetensors")


def test_one_rank_in_bfloat16_is_the_rounded_model(tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", save_plain, 4)
    exported(done, dtype="bfloat16")
    own, rounded = (
        SavedModel(done.checkpoints / "step-00000004" / "trainer"),
        load_file(tmp_path / "model/model.safetensors"),
    )
    assert rounded.keys() == own.layouts.keys()
    for name, tensor in rounded.items():
        assert torch.equal(tensor, own.read(name).bfloat16())
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    assert loaded(tmp_path / "model").dtype == torch.bfloat16


def test_tokenizer_chat_template_and_generation_config_are_those_of_the_base_model(tmp_path: Path) -> None:
    exported(make_run(tmp_path / "run", save_plain, 4))
    ours, theirs = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("model", "base"))
    chat = [{"role": "user", "content": "<answer>ä"}]
    assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)
    assert loaded(tmp_path / "model").generation_config.eos_token_id == 2
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {path.name for path in (tmp_path / "base").iterdir()} | {"README.md", ORIGIN}


def test_small_shards_have_an_index_and_load_as_one(tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", save_plain, 4)
    exported(done, shard_size="20KB")
    shards = sorted((tmp_path / "model").glob("*.safetensors"))
    assert len(shards) > 2
    assert max(shard.stat().st_size for shard in shards) < 22_000
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    own, model = SavedModel(done.checkpoints / "step-00000004" / "trainer"), loaded(tmp_path / "model").state_dict()
    assert all(torch.equal(model[name], own.read(name)) for name in own.layouts)


def test_a_checkpoint_in_an_object_storage_is_downloaded_and_nothing_of_that_stays(tmp_path: Path) -> None:
    emptied()
    done = make_run(tmp_path / "run", save_plain, 3, 4, checkpoint={"folder": URL})
    before = sorted(path.name for path in (done.path / "scratch").rglob("*"))
    assert exported(done, 3).step == 3
    assert loaded(tmp_path / "model").dtype == torch.float32
    assert sorted(path.name for path in (done.path / "scratch").rglob("*")) == before  # it is the run's own
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "model", "run"]
    assert not (tmp_path / "model" / "download").exists()


def _lose(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[GATE]


def _add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.2.extra.weight"] = torch.zeros(2)


def _widen(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NORM] = torch.zeros(33)


def _count(tensors: dict[str, torch.Tensor]) -> None:
    tensors[NORM] = torch.zeros(32, dtype=torch.int64)


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors[GATE][3, 4] = float("nan")


def _infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors[GATE][3, 4] = float("-inf")


def _too_large(tensors: dict[str, torch.Tensor]) -> None:
    tensors[GATE][3, 4] = torch.finfo(torch.float32).max  # rounds to infinity in bfloat16


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_lose, f"{GATE} is missing from the checkpoint"),
        (_add, "model.layers.2.extra.weight is in the checkpoint but not in the model"),
        (_widen, f"{NORM} is float32 [33] in the checkpoint, float32 [32] in the model"),
        (_count, f"{NORM} is int64 [32] in the checkpoint, float32 [32] in the model"),
        (_nan, f"{GATE} holds a NaN or an infinity:"),
        (_infinite, f"{GATE} holds a NaN or an infinity:"),
        (_too_large, f"{GATE} holds a NaN or an infinity as bfloat16:"),
    ],
)
def test_what_is_not_the_model_is_refused_with_the_tensors_name(change: Any, says: str, tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", saving(change), 4)
    with pytest.raises(ExportError) as refused:
        exported(done, dtype="bfloat16")
    assert says in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "run"]


def test_a_truncated_file_of_a_rank_is_named_and_last_passes_it_by(tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", save_plain, 3, 4)
    damaged = next((done.checkpoints / "step-00000004" / "trainer").glob("*.distcp"))
    os.truncate(damaged, damaged.stat().st_size - 1)
    with pytest.raises(CheckpointError, match=f"trainer/{damaged.name} is .* bytes, was"):
        exported(done, 4)
    written = exported(done)
    assert written.step == 3
    assert [skipped.name for skipped in written.skipped] == ["step-00000004"]


def test_a_part_that_cannot_be_read_is_named_by_its_tensor(tmp_path: Path) -> None:
    save_plain(tmp_path / "state")
    model = SavedModel(tmp_path / "state")
    (file,) = (tmp_path / "state").glob("*.distcp")
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(CheckpointError, match=f"^{NORM}: "):
        model.read(NORM)


def test_a_checkpoint_that_the_run_removes_meanwhile_is_said_to_be(tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", save_plain, 3)
    store = CheckpointStore(done.checkpoints)

    def remove(what: str, done: int, size: int) -> None:
        if done and store.steps():
            store._storage.remove(3)

    with pytest.raises(ExportError, match="step 3 was removed while it was read"):
        export(done, "last", tmp_path / "model", Options(), remove)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "run"]


def test_the_best_is_that_of_the_runs_metric(tmp_path: Path) -> None:
    best = {"best_metric": "validation/good", "keep_best": 1}
    done = make_run(tmp_path / "run", save_plain, 2, 3, 4, checkpoint=best)
    assert exported(done, "best").step == 2  # the metric is 1 / step


def test_without_a_metric_or_its_values_there_is_no_best(tmp_path: Path) -> None:
    plain, unmeasured = CheckpointConfig(), CheckpointConfig(best_metric="reward/none", keep_best=1)
    store = CheckpointStore(make_run(tmp_path / "run", save_plain, 2).checkpoints)
    with pytest.raises(ConfigError, match=r"given best, allowed with checkpoint\.best_metric"):
        choose(store, "best", plain)
    with pytest.raises(ExportError, match=r"no checkpoint has reward/none \(steps 2\)"):
        choose(store, "best", unmeasured)
    with pytest.raises(ConfigError, match=r"given 3, allowed: the step of a checkpoint \(2\), last, or best"):
        choose(store, 3, plain)


def _export_to_a_tiny_disk(run: RunFolder, disk: Path, said: Any) -> None:
    """In a mount namespace of this process's own, if it may have one: what two exports say and leave."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNS):
        said.put(None)
        return
    for mount in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]):
        subprocess.run(["mount", *mount], check=True)
    messages = []
    for free in (shutil.disk_usage, lambda path: SimpleNamespace(free=10**9)):  # the second lies, as a quota may
        shutil.disk_usage = free  # type: ignore[assignment]
        try:
            export(run, "last", disk / "model", Options(), lambda what, done, size: None)
        except MrpoError as error:
            messages.append(str(error))
    said.put((messages, os.listdir(disk)))


def test_a_full_disk_is_one_message_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", save_plain, 4)
    (tmp_path / "disk").mkdir()
    context = multiprocessing.get_context("fork")
    said: Any = context.Queue()
    process = context.Process(target=_export_to_a_tiny_disk, args=(done, tmp_path / "disk", said))
    process.start()
    heard = said.get(timeout=60)
    process.join()
    if heard is None:
        pytest.skip("only root may mount a disk")
    (first, second), left = heard
    assert "GB free, and the model takes" in first
    assert f"{tmp_path}/disk/model can't be written: No space left on device. Nothing is left of it." in second
    assert left == []
    assert CheckpointStore(done.checkpoints).load(4).step == 4


def test_the_embedding_counts_once_in_the_size(tmp_path: Path) -> None:
    done = make_run(tmp_path / "run", save_plain, 4)
    assert exported(done).size == sum(tensor.numel() * 4 for tensor in tensors_of(1).values())
