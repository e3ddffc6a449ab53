"""Rollouts that were sampled before their step: by which weights, and as which a killed run takes them up again."""

from __future__ import annotations

import pytest

from mrpo.checkpoint.plain import load_state
from mrpo.checkpoint.store import CheckpointStore
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.wire import decode

from .conftest import STEPS

pytestmark = pytest.mark.e2e


def test_every_rollout_is_of_weights_one_step_older_than_those_that_learn_from_it(ahead_run: RunFolder) -> None:
    metrics = {record["step"]: record for record in ahead_run.metrics()}
    for step in range(1, STEPS + 1):
        version = max(0, step - 2)
        assert {tuple(row["versions"]) for row in ahead_run.read_rollouts(step)} == {(version, version)}
        assert metrics[step]["rollout/off_policy/trajectory_staleness/max"] == step - 1 - version
        assert 0 < metrics[step]["rollout/correction/rollout_is_eff_sample_size"] <= 1


def test_every_prompt_had_its_turn_once(ahead_run: RunFolder, unequal_run: RunFolder) -> None:
    assert sum(event["phase"] == Phase.RESUME for event in ahead_run.events()) == 1
    uids = [[{row["uid"] for row in run.read_rollouts(step)} for step in range(1, STEPS + 1)] for run in
            (ahead_run, unequal_run)]  # fmt: skip
    assert uids[0] == uids[1]


def test_a_checkpoint_holds_the_rollouts_that_the_next_step_trained_on(ahead_run: RunFolder) -> None:
    """The run was killed after step 2 was saved: it went on with what the checkpoint had of step 3."""
    store = CheckpointStore(ahead_run.checkpoints, ahead_run.scratch)
    saved = [step for step in store.steps() if step < STEPS]
    assert saved
    for step in saved:
        state = load_state(store.load(step).folder / "rollouts" / f"{step + 1}-0.npz")
        lengths = dict(zip(state["keys"], state["ragged"]["responses"][1].tolist(), strict=True))
        infos = [extra["reward_extra_info"] for extra in state["others"]["extra_fields"]]
        scores = dict(zip(state["keys"], map(decode, infos), strict=True))
        rows = {f"{row['uid']}_{row['sample']}_0": row for row in ahead_run.read_rollouts(step + 1)}
        assert rows.keys() == lengths.keys()
        for key, row in rows.items():
            assert row["tokens"] == lengths[key]
            assert all(scores[key][name] == score for name, score in row["rewards"].items())
    assert not (store.load(STEPS).folder / "rollouts").exists()
