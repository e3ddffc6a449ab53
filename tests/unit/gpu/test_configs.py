"""Every training run of the parts composes for a GPU, and has nothing of what only a CPU needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mrpo.config.load import load_run_config
from mrpo.config.verl import to_verl
from mrpo.driver.environment import environment
from mrpo.record.run_folder import RunFolder
from tests.gpu import runs
from tests.gpu.part import Context, Report
from tests.gpu.parts.repeated import overrides as repeated
from tests.gpu.runs import QUICK_START, command, half_billion, typed

pytestmark = pytest.mark.unit
RUNS = {
    "float32": lambda context: [*typed("float32"), *QUICK_START],
    "bfloat16": lambda context: [*typed("bfloat16"), *QUICK_START],
    "half_billion": lambda context: half_billion(Path("model")),
    "strict": repeated,
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context("cuda", tmp_path, Report(tmp_path / "report.json"))


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("name", RUNS)
def test_it_composes_for_a_gpu(name: str, flash: bool, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "has_flash_attention", lambda: flash)
    words = command(context, name, RUNS[name](context))
    config, recipe = load_run_config(words[words.index("train") + 1 :])
    assert (config.trainer.device, config.ranks, config.rollout.placement) == ("gpu", 1, "colocated")
    verl = to_verl(config, recipe.folder, Path("run"), "cuda")
    packed = flash and name != "strict"  # flash attention takes packed sequences, torch's own doesn't
    assert verl.actor_rollout_ref.model.use_remove_padding is packed
    wanted = {"strict": "eager"}.get(name, None if flash else "sdpa")
    assert verl.actor_rollout_ref.model.override_config.get("attn_implementation") == wanted
    assert verl.actor_rollout_ref.rollout.enforce_eager is (name != "half_billion")
    assert verl.actor_rollout_ref.actor.fsdp_config.full_determinism is (name == "strict")
    assert verl.trainer.device == "cuda"
    assert "mrpo.verl_seam.cpu" not in OmegaConf.to_yaml(verl)
    assert verl.actor_rollout_ref.rollout.free_cache_engine is True
    variables = environment(config, "cuda", RunFolder(context.run_dir(name)))
    assert (variables.get("VLLM_BATCH_INVARIANT") == "1") is (name == "strict")
    of_a_cpu = {"VERL_PLATFORM", "TORCHDYNAMO_DISABLE", "OMP_NUM_THREADS", "MRPO_ROLLOUT_THREADS"}
    assert not of_a_cpu & variables.keys()
    assert not [variable for variable in variables if variable.startswith("VLLM_CPU")]
