"""Rollouts ahead, and the correction for their older weights, as a config says them and as verl reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrpo.config.load import validate
from mrpo.config.run import RunConfig
from mrpo.config.verl import off_policy, to_verl
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

OFF = {
    "rollout_is": None,
    "rollout_is_threshold": 2.0,
    "rollout_is_batch_normalize": False,
    "rollout_rs": None,
    "rollout_rs_threshold": None,
}


def config(**sections: Any) -> RunConfig:
    content: dict[str, Any] = {
        "recipe": "test",
        "model": {"path": "m"},
        "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": 4},
        "rewards": {"correct": {"function": "r.py:c"}},
    }
    return validate({**content, **sections})


def test_older_weights_are_corrected_for_unless_something_else_is_asked_for() -> None:
    assert off_policy(config()) == OFF
    assert off_policy(config(rollout={"ahead": 1})) == {**OFF, "rollout_is": "token"}
    nothing = {"off_policy": {"rollout_is": "none"}}
    assert off_policy(config(rollout={"ahead": 1}, algorithm=nothing)) == OFF
    rejects = {"off_policy": {"rollout_is": "sequence", "rollout_rs": "seq_mean_k1", "rollout_rs_threshold": "0.9_1.1"}}
    expected = {"rollout_is": "sequence", "rollout_rs": "seq_mean_k1", "rollout_rs_threshold": "0.9_1.1"}
    assert off_policy(config(algorithm=rejects)) == {**OFF, **expected}


def test_verl_gets_it_under_its_own_name(tmp_path: Path) -> None:
    verl = to_verl(config(rollout={"ahead": 2}), tmp_path, tmp_path, "cpu")
    assert verl.algorithm.rollout_correction.rollout_is == "token"
    assert verl.algorithm.rollout_correction.bypass_mode is False
    assert verl.trainer.v1.separate_async.num_warmup_batches == 0  # what goes ahead is ours to count


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"rollout": {"ahead": 1, "placement": "colocated"}},
            "rollout.ahead: given 1 with placement=colocated, allowed: 0, or placement=separate",
        ),
        ({"rollout": {"ahead": -1}}, "rollout.ahead"),
        ({"rollout": {"ahead": 9}}, "rollout.ahead"),
        ({"rollout": {"on_sync": "continue"}}, "rollout.on_sync: given continue, which has no effect with ahead=0"),
        (
            {"rollout": {"ahead": 1, "on_sync": "continue"}, "trainer": {"determinism": "strict"}},
            "trainer.determinism: given strict with rollout.on_sync=continue, allowed: default, or on_sync=finish",
        ),
        ({"algorithm": {"off_policy": {"rollout_rs": "seq_mean_k1"}}}, "rollout_rs_threshold: none given"),
        ({"algorithm": {"off_policy": {"rollout_is": "tokens"}}}, "rollout_is"),
    ],
)
def test_what_cannot_work_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**sections)
