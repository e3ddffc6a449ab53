"""What estimators and the budget do beyond one number a rollout: masks, filters and tokens, in real training."""

from __future__ import annotations

from collections import defaultdict

import pytest

from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.e2e


def test_a_filtered_step_has_its_full_number_of_prompts_all_with_spread(filtered_run: RunFolder) -> None:
    for step in filtered_run.rollout_steps():
        groups = defaultdict(list)
        for row in filtered_run.read_rollouts(step):
            groups[row["uid"]].append(row["rewards"]["correct"])
        assert [len(scores) for scores in groups.values()] == [4] * 8
        assert all(len(set(scores)) > 1 for scores in groups.values())
    assert any(record.get("rollout/filter_groups/evicted_samples", 0) > 0 for record in filtered_run.metrics())


def test_dropped_rollouts_have_no_advantage_and_leave_the_loss(filtered_run: RunFolder) -> None:
    dropped = 0
    for record in filtered_run.metrics():
        rows = filtered_run.read_rollouts(record["step"])
        gone = [row for row in rows if not row["keep"]]
        dropped += len(gone)
        assert all(row["advantage"] == 0 for row in gone)
        kept = [row for row in rows if row["keep"]]
        tokens = sum(row["tokens"] for row in kept)
        mean = sum(row["advantage"] * row["tokens"] for row in kept) / tokens  # the mask decides what verl averages
        assert record["advantage/per_token/mean"] == pytest.approx(mean, abs=1e-5)
        assert record["train/grad_norm"] > 0
    assert dropped > 0


def test_masked_rollouts_are_the_truncated_ones_and_those_that_conflict(filtered_run: RunFolder) -> None:
    rows = [row for step in filtered_run.rollout_steps() for row in filtered_run.read_rollouts(step)]
    truncated = [row for row in rows if row["truncated"]]
    assert 0 < len(truncated) < len(rows)
    assert {row["tokens"] for row in truncated} == {18}
    assert not any(row["keep"] for row in truncated)
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"]].append(row["truncated"])
    assert all(group.count(False) >= 2 for group in groups.values())  # others teach nothing, and were replaced


def test_token_modulation_bounds_what_tokens_get(colocated_run: RunFolder) -> None:
    for record in colocated_run.metrics():
        advantages = [row["advantage"] for row in colocated_run.read_rollouts(record["step"])]
        highest = record["advantage/per_token/max"] / max(advantages)
        lowest = record["advantage/per_token/min"] / min(advantages)
        assert 1.0 < highest <= 1.2 + 1e-5  # the surest token of the best rollout is boosted
        assert 0.6 - 1e-5 <= lowest <= 1.0 + 1e-5


def test_prompts_are_sampled_in_rounds_until_balanced_and_judged_by_all_that_was_seen(rounds_run: RunFolder) -> None:
    for record in rounds_run.metrics():
        rows = rounds_run.read_rollouts(record["step"])
        groups = defaultdict(list)
        for row in rows:
            groups[row["uid"]].append(row)
        assert [len(group) for group in groups.values()] == [4] * 16
        assert record["budget/rollouts"] > len(rows)  # some prompts took more than a round
        assert record["rollout/padding_rows"] == 0
        right = [sum(row["rewards"]["correct"] for row in group) for group in groups.values()]
        assert right.count(2.0) >= 8
        kept = sum(right) / len(rows)
        assert record["reward/correct/mean"] != kept  # the metric is of the policy, not of the selection


def test_a_reward_of_a_group_sees_all_rollouts_of_a_prompt_once_its_rounds_are_over(rounds_run: RunFolder) -> None:
    for record in rounds_run.metrics():
        seen = {row["uid"]: row["rewards"]["seen"] for row in rounds_run.read_rollouts(record["step"])}
        assert sum(seen.values()) == record["budget/rollouts"]
        assert set(seen.values()) <= {4, 8, 12, 16}
        for row in rounds_run.read_rollouts(record["step"]):
            assert row["rewards"]["seen"] == seen[row["uid"]]
            assert row["details"]["seen"] == {"step": record["step"], "right": row["rewards"]["correct"]}
