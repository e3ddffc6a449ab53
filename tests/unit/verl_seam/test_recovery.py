"""A reward worker executes a tokenizer's code only if the run trusts it, whatever verl's own would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers.dynamic_module_utils as modules
from omegaconf import OmegaConf

from mrpo.verl_seam import recovery
from tests.unit.data.test_render import code_tokenizer

pytestmark = pytest.mark.unit


def worker(folder: Path, trusted: bool) -> Any:
    model = {"path": str(folder), "tokenizer_path": None, "trust_remote_code": trusted}
    return recovery.RewardLoopWorker(OmegaConf.create({"actor_rollout_ref": {"model": model}}))


@pytest.mark.parametrize("trusted", [False, True])
def test_a_reward_worker_executes_a_tokenizers_code_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(recovery, "load_reward_manager", lambda *_, **__: None)  # what it would do next
    own = code_tokenizer(tmp_path / "own")
    if trusted:
        assert type(worker(own, trusted).input_tokenizer).__name__ == "OwnTokenizer"
    else:
        with pytest.raises(ValueError, match="trust_remote_code"):
            worker(own, trusted)
    assert (own / "ran").exists() is trusted
