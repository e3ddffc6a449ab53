"""Trainer state, saved and loaded by real FSDP2 ranks over gloo, and by a single plain process (pytest's own)."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.checkpoint import tensor_files
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state, save_state
from mrpo.checkpoint.random_states import random_states, seed_rank, set_random_states
from mrpo.checkpoint.tensor_files import tiles
from tests.unit.checkpoint.ranks import Trainer, run, seed_all

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:torch.distributed is disabled")]


class SlowWriter(tensor_files._Writer):
    def write_data(self, *args: Any) -> Any:
        time.sleep(1)
        return super().write_data(*args)


def save_twice(rank: int, folder: Path) -> dict[str, Any]:
    trainer = Trainer(seed=1, ranks=2)
    trainer.train(3)
    trainer.state.save(folder / "sync")
    before, rng = trainer.everything(), random_states()
    tensor_files._Writer = SlowWriter  # type: ignore[misc]
    saving = trainer.state.save(folder / "async", asynchronous=True)
    losses = trainer.train(3)
    assert saving.written is not None
    on_the_way = not saving.written.done() and not (folder / "async" / tensor_files.INDEX).exists()
    saving.wait()
    after = trainer.everything()
    return {"losses": losses, "before": before, "after": after, "on_the_way": on_the_way, "rng": rng}


def resume(rank: int, folder: Path) -> dict[str, Any]:
    trainer = Trainer(seed=2, ranks=2)
    loaded = trainer.state.load(folder / "sync")
    result = {
        "loaded": loaded,
        "before": trainer.everything(),
        "losses": trainer.train(3),
        "after": trainer.everything(),
    }
    (folder / "blocked" / "rank_1.npz").mkdir(parents=True, exist_ok=True)
    with pytest.raises(CheckpointError) as refused:
        trainer.state.save(folder / "blocked")
    return result | {"refused": str(refused.value)}


def load_only(rank: int, folder: Path, ranks: int) -> dict[str, Any]:
    trainer = Trainer(seed=2, ranks=ranks)
    loaded = trainer.state.load(folder / "sync")
    return {"loaded": loaded, "before": trainer.everything(), "rng": random_states()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states") / "two_ranks"


@pytest.fixture(scope="module")
def saved(folder: Path) -> list[dict[str, Any]]:
    """Two ranks trained 3 steps, saved to ``sync`` and ``async``, and trained 3 more: what each says of it."""
    return run(2, save_twice, folder)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    """A state that a single process without FSDP saved; its own random states are put back."""
    before = random_states()
    seed_all(0)
    trainer = Trainer(seed=1)
    trainer.train(2)
    trainer.state.save(tmp_path / "plain")
    yield tmp_path / "plain"
    set_random_states(before)


def test_a_resumed_run_repeats_losses_and_state_to_the_bit(folder: Path, saved: list[dict[str, Any]]) -> None:
    resumed = run(2, resume, folder)
    for then, now in zip(saved, resumed, strict=True):
        assert (now["loaded"].saved_ranks, now["loaded"].resharded, now["loaded"].rng_restored) == (2, False, True)
        assert now["before"] == then["before"]
        assert now["losses"] == then["losses"]
        assert now["after"] == then["after"]
    assert saved[0]["losses"] != saved[1]["losses"]  # so ranks had random states of their own
    # every rank hears that one can't write
    assert all(now["refused"].startswith("rank 1: IsADirectoryError") for now in resumed)


def test_three_ranks_load_what_two_saved(folder: Path, saved: list[dict[str, Any]], tmp_path: Path) -> None:
    ranks = run(3, load_only, folder, 3)
    for now in ranks:
        assert (now["loaded"].saved_ranks, now["loaded"].resharded, now["loaded"].rng_restored) == (2, True, False)
        assert now["before"] == saved[0]["before"]
    assert len({now["rng"]["python"] for now in ranks}) == 3


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_plain_process_loads_what_two_ranks_saved_while_training_went_on(
    how: str, folder: Path, saved: list[dict[str, Any]], plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer, again = Trainer(seed=2), Trainer(seed=3)
    with caplog.at_level(logging.WARNING):
        loaded = trainer.state.load(folder / how)
    assert "rank 0 of 1: seeded anew, as 2 ranks saved" in caplog.text
    assert loaded.resharded
    assert trainer.everything() == saved[0]["before"]
    assert all(rank["on_the_way"] and rank["after"] != rank["before"] for rank in saved)
    seeded = random_states()
    again.state.load(folder / how)
    assert random_states()["python"] == seeded["python"]


def test_a_plain_process_resumes_to_the_bit(plain: Path) -> None:
    trainer = Trainer(seed=2)
    assert not trainer.state.load(plain).resharded
    other = Trainer(seed=3)
    other.state.load(plain)
    first = trainer.train(3)
    other.state.load(plain)
    assert other.train(3) == first
    assert other.everything() == trainer.everything()


def test_tied_weights_are_stored_once_and_stay_tied(plain: Path) -> None:
    names = json.loads((plain / "index.json").read_text())
    assert "model.model.embed_tokens.weight" in names
    assert "model.lm_head.weight" not in names
    trainer = Trainer(seed=2)
    trainer.state.load(plain)
    assert trainer.model.lm_head.weight is trainer.model.model.embed_tokens.weight


def test_an_optimizer_that_has_not_stepped_is_saved_as_it_is(tmp_path: Path) -> None:
    trainer, other = Trainer(seed=1), Trainer(seed=2)
    trainer.state.save(tmp_path / "new")
    assert not trainer.optimizer.state
    other.state.load(tmp_path / "new")
    assert not other.optimizer.state
    seed_all(0)
    losses = trainer.train(2)
    seed_all(0)
    assert other.train(2) == losses


def test_a_state_is_not_overwritten(plain: Path) -> None:
    with pytest.raises(CheckpointError, match="plain holds a state already"):
        Trainer(seed=1).state.save(plain)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_hidden_layers": 3}, r"groups differ: model\.layers\.2\."),
        ({"intermediate_size": 32}, r"gate_proj.weight is torch.float32 \[48, 32\] in it but torch.float32 \[32, 32\]"),
    ],
)
def test_another_model_is_refused_and_left_as_it_is(changes: dict[str, int], told: str, plain: Path) -> None:
    trainer = Trainer(seed=2, **changes)
    before = trainer.everything()
    with pytest.raises(CheckpointError, match=told):
        trainer.state.load(plain)
    assert trainer.everything() == before


def test_a_missing_and_an_unknown_tensor_are_named(plain: Path) -> None:
    index = json.loads((plain / "index.json").read_text())
    index["model.elsewhere"] = index.pop("model.model.norm.weight")
    (plain / "index.json").write_text(json.dumps(index))
    with pytest.raises(
        CheckpointError, match=r"elsewhere is in it but not here; model\.model\.norm\.weight is missing"
    ):
        Trainer(seed=2).state.load(plain)


def test_a_tensor_with_a_lost_part_is_refused(plain: Path) -> None:
    index = json.loads((plain / "index.json").read_text())
    index["model.model.norm.weight"]["parts"] = []
    (plain / "index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.model\.norm\.weight: its parts don't make up its size \[32\]"):
        Trainer(seed=2).state.load(plain)


def double(parts: list[Any]) -> list[Any]:
    (offsets, sizes, *at) = parts[0]
    half = [sizes[0] // 2, *sizes[1:]]
    return [[offsets, half, *at]] * 2


def move(parts: list[Any]) -> list[Any]:
    return [[parts[0][1], *parts[0][1:]]]


def reshape(parts: list[Any]) -> list[Any]:
    return [[parts[0][0], parts[0][1][::-1], *parts[0][2:]]]


@pytest.mark.parametrize("change", [double, move, reshape])
def test_a_part_that_lies_elsewhere_or_twice_is_refused(change: Callable[[list[Any]], list[Any]], plain: Path) -> None:
    index = json.loads((plain / "index.json").read_text())
    entry = next(index[name] for name in index if name.endswith("embed_tokens.weight"))
    entry["parts"] = change(entry["parts"])
    (plain / "index.json").write_text(json.dumps(index))
    other = Trainer(seed=2)
    before = {name: value.clone() for name, value in other.state.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="each element once"):
        other.state.load(plain)
    assert all(torch.equal(before[name], value) for name, value in other.state.model.state_dict().items())


ODD_PARTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "torch.float64 [32, 32]": lambda part: part.double(),
    "torch.int32 [32, 32]": lambda part: part.int(),
    "torch.float32 [64, 32]": lambda part: torch.cat([part, part]),
    "torch.float32 [1024]": torch.flatten,
}


def test_a_part_of_another_type_or_size_than_the_index_says_is_refused(plain: Path) -> None:
    """One part of a tensor of two, each in a file of its own; the other is as it was saved."""
    index = json.loads((plain / "index.json").read_text())
    name = next(name for name in index if name.endswith("embed_tokens.weight"))
    (offsets, sizes, file, start, length) = index[name]["parts"][0]
    with open(plain / file, "rb") as shard:
        shard.seek(start)
        whole = torch.load(io.BytesIO(shard.read(length)), weights_only=True)
    half = [sizes[0] // 2, sizes[1]]
    torch.save(whole[: half[0]].clone(), plain / "first")

    def load(second: torch.Tensor) -> None:
        torch.save(second, plain / "second")
        index[name]["parts"] = [
            [at, half, file, 0, (plain / file).stat().st_size]
            for at, file in ((offsets, "first"), ([half[0], 0], "second"))
        ]
        (plain / "index.json").write_text(json.dumps(index))
        Trainer(seed=2).state.load(plain)

    right = whole[half[0] :].clone()
    load(right)
    for shown, change in ODD_PARTS.items():
        with pytest.raises(CheckpointError) as caught:
            load(change(right))
        assert f"{name}: a part in second is {shown}, by the index torch.float32 {half}" in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_parts_tile_a_tensor_if_each_element_is_in_one(data: st.DataObject) -> None:
    whole = tuple(data.draw(st.lists(st.integers(0, 4), max_size=3)))
    numbers = st.tuples(*(st.integers(-1, 4) for _ in whole))
    parts = data.draw(st.lists(st.tuples(numbers, numbers), max_size=4))
    inside = all(o >= 0 and s >= 0 and o + s <= w for os, ss in parts for o, s, w in zip(os, ss, whole, strict=True))
    count = torch.zeros(whole)
    for offsets, sizes in parts if inside else []:
        count[tuple(slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))] += 1
    assert tiles(parts, whole) == (inside and bool((count == 1).all()))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(seed="x"),
        lambda values: values.pop("groups"),
        lambda values: values["groups"][0].update(lr="x"),
        lambda values: values.update(optimizer=3),
    ],
)
def test_values_of_another_kind_are_refused_before_anything_is_changed(
    change: Callable[[dict[str, Any]], object], plain: Path
) -> None:
    values = load_state(plain / "trainer.npz")
    change(values)
    save_state(plain / "trainer.npz", values)
    other = Trainer(seed=2)
    before = {name: value.clone() for name, value in other.state.model.state_dict().items()}
    with pytest.raises(CheckpointError):
        other.state.load(plain)
    assert all(torch.equal(before[name], value) for name, value in other.state.model.state_dict().items())


@pytest.mark.parametrize("states", [{}, {"torch": 1, "numpy": 2, "python": 3}, [1], "x"])
def test_random_states_that_are_none_are_refused_before_anything_is_changed(states: Any, plain: Path) -> None:
    save_state(plain / "rank_0.npz", states)
    other = Trainer(seed=2)
    before = {name: value.clone() for name, value in other.state.model.state_dict().items()}
    with pytest.raises(CheckpointError, match="is not a state"):
        other.state.load(plain)
    assert all(torch.equal(before[name], value) for name, value in other.state.model.state_dict().items())


def test_a_truncated_or_missing_shard_is_named(plain: Path) -> None:
    shard = plain / "__0_0.distcp"
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    with pytest.raises(CheckpointError, match=rf"__0_0\.distcp is cut off: {size - 1} bytes, {size} needed"):
        Trainer(seed=2).state.load(plain)
    shard.unlink()
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp is missing"):
        Trainer(seed=2).state.load(plain)


class Payload:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["index.json", "trainer.npz", "rank_0.npz", "shard"])
def test_a_pickle_that_would_run_code_is_refused_unexecuted(name: str, plain: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(ran)))
    ran.unlink()  # it would have worked
    if name == "shard":
        torch.save(Payload(ran), plain / "evil")
        index = json.loads((plain / "index.json").read_text())
        index["model.model.norm.weight"]["parts"][0][2:] = ["evil", 0, (plain / "evil").stat().st_size]
        (plain / "index.json").write_text(json.dumps(index))
    else:
        (plain / name).write_bytes(pickle.dumps(Payload(ran)))
    with pytest.raises(CheckpointError):
        Trainer(seed=2).state.load(plain)
    assert not ran.exists()


def test_dcps_own_pickled_index_is_neither_written_nor_read(plain: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in plain.iterdir()) == ["__0_0.distcp", "index.json", "rank_0.npz", "trainer.npz"]
    (plain / ".metadata").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    Trainer(seed=2).state.load(plain)
    assert not (tmp_path / "ran").exists()


def test_a_part_outside_the_folder_is_refused(plain: Path) -> None:
    shutil.copy(plain / "__0_0.distcp", plain.parent / "outside")
    index = json.loads((plain / "index.json").read_text())
    index["model.model.norm.weight"]["parts"][0][2] = "../outside"
    (plain / "index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="part outside the folder"):
        Trainer(seed=2).state.load(plain)


def test_ranks_are_seeded_by_seed_and_rank() -> None:
    def drawn(seed: int, rank: int) -> tuple[float, float, float]:
        seed_rank(seed, rank)
        return torch.rand(()).item(), np.random.rand(), random.random()

    before = random_states()
    assert drawn(5, 0) == drawn(5, 0)
    assert len({drawn(5, 0), drawn(5, 1), drawn(6, 0)}) == 3
    set_random_states(before)
