"""Rollouts that were sampled before their step: by which weights, and as what a run that died takes them up again."""

from __future__ import annotations

from collections import Counter

import pytest

from mrpo.checkpoint.plain import load_state
from mrpo.checkpoint.store import CheckpointStore
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.wire import decode

from .conftest import AGREEMENT, STEPS


@pytest.mark.e2e
def test_every_rollout_is_of_weights_one_step_older_than_those_that_learn_from_it(ahead_run: RunFolder) -> None:
    metrics = {record["step"]: record for record in ahead_run.metrics()}
    for step in range(1, STEPS + 1):
        version = max(0, step - 2)
        assert {tuple(row["versions"]) for row in ahead_run.read_rollouts(step)} == {(version, version)}
        assert metrics[step]["rollout/off_policy/trajectory_staleness/max"] == step - 1 - version
        assert 0 < metrics[step]["rollout/correction/rollout_is_eff_sample_size"] <= 1


@pytest.mark.e2e
def test_every_prompt_had_its_turn_once(ahead_run: RunFolder, unequal_run: RunFolder) -> None:
    assert sum(event["phase"] == Phase.RESUME for event in ahead_run.events()) == 1
    uids = [[{row["uid"] for row in run.read_rollouts(step)} for step in range(1, STEPS + 1)] for run in
            (ahead_run, unequal_run)]  # fmt: skip
    assert uids[0] == uids[1]


@pytest.mark.proof
def test_rollouts_that_new_weights_meet_go_on_by_them(continue_run: RunFolder) -> None:
    metrics, crossed = {record["step"]: record for record in continue_run.metrics()}, 0
    for step in continue_run.rollout_steps():
        rows = continue_run.read_rollouts(step)
        assert all(max(0, step - 2) <= first <= last < step for first, last in (row["versions"] for row in rows))
        spans = [last - first + 1 for first, last in (row["versions"] for row in rows)]
        assert metrics[step]["rollout/off_policy/trajectory_spans/max"] == max(spans)
        oldest = max(step - 1 - first for first, _ in (row["versions"] for row in rows))
        assert metrics[step]["rollout/off_policy/trajectory_staleness_worst/max"] == oldest
        assert 0 < metrics[step]["rollout/correction/rollout_is_eff_sample_size"] < 1 + 1e-6
        assert metrics[step]["rollout/probs_diff/max"] < AGREEMENT
        crossed += sum(span > 1 for span in spans)
    assert crossed > 0


@pytest.mark.proof
def test_every_prompt_has_its_turn_once_where_rollouts_were_under_way_as_a_rank_died(
    continue_run: RunFolder, unequal_run: RunFolder
) -> None:
    resumed = [event["detail"] for event in continue_run.events() if event["phase"] == Phase.RESUME]
    assert resumed == ["from step 2"]
    assert continue_run.rollout_steps() == [1, 2, 3, 4]
    saved = CheckpointStore(continue_run.checkpoints, continue_run.scratch).load(2).folder / "rollouts"
    plan = load_state(saved / "3.npz")
    for step in continue_run.rollout_steps():
        groups = Counter(row["uid"] for row in continue_run.read_rollouts(step))
        assert groups.keys() == {row["uid"] for row in unequal_run.read_rollouts(step)}
        assert groups.total() == 8 * 8
        assert step != 3 or groups == plan["n_by_uid"]
    if not list(saved.glob("3-*.npz")):  # else step 3 was complete before step 2 had trained
        assert plan["began_at"]["prompts_fetched"] == 2 * 8


@pytest.mark.e2e
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
