"""The step's total stays what it was, through refills; history is found by a prompt's content."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mrpo.budget.ids import content_ids, prompt_uid
from mrpo.config.advantage import as_config
from mrpo.config.allocators import method_config
from mrpo.step.budget import BatchPlan, RolloutBudget, totals
from mrpo.step.rollouts import Rollouts, RowKey

pytestmark = pytest.mark.unit

PROMPTS = 8


def budget(**settings: object) -> RolloutBudget:
    fields = {"low": 1, "high": 32, "rollouts_per_prompt": 8} | settings
    config = method_config("neyman", {}, **fields)
    return RolloutBudget(config, as_config({"names": ("a", "b"), "weights": {"a": 1.0, "b": 0.5}}), PROMPTS)


def uids(draw: int = 0) -> list[str]:
    return [prompt_uid([{"role": "user", "content": str(i)}], "x", "test", draw + i) for i in range(PROMPTS)]


def unsaid(n: int) -> tuple[list[dict[str, str]], list[bool | None], list[dict[str, Any]]]:
    """Failures, truncation and details of rollouts without any."""
    return [{}] * n, [None] * n, [{}] * n


def rollouts(names: list[str], planned: dict[str, int]) -> Rollouts:
    """Rows in which prompt 0 is always right, and the others are right every other time."""
    keys = [RowKey(uid, sample, 0) for uid in names for sample in range(planned[uid])]
    scores = [[1.0 if names.index(k.uid) == 0 else float(k.sample % 2), 0.0] for k in keys]
    groups, index = torch.tensor([names.index(k.uid) for k in keys]), torch.arange(len(keys))
    rewards_NK, lengths_N = torch.tensor(scores, dtype=torch.float64), torch.ones(len(keys))
    return Rollouts(keys, rewards_NK, groups, lengths_N, index, index, *unsaid(len(keys)))


def observe(owner: RolloutBudget, batch: BatchPlan, rows: Rollouts) -> dict[str, float]:
    return owner.observe(batch, rows, rows.rewards_NK[:, 0] - 0.5, step=1)


def test_history_moves_rollouts_from_a_mastered_prompt_to_mixed_ones() -> None:
    owner = budget()
    names = uids()
    batch = BatchPlan()
    assert owner.plan(batch, names).tolist() == [8] * PROMPTS  # nothing is known yet
    metrics = observe(owner, batch, rollouts(names, batch.n_by_uid))
    assert metrics["budget/zero_signal"] == pytest.approx(1 / PROMPTS)
    batch = BatchPlan()
    again = owner.plan(batch, uids(draw=100))
    assert again.sum() == 64
    assert again[0] == 1
    assert again[1:].min() > 8


def test_replacements_get_what_the_prompts_they_replace_had() -> None:
    owner = budget()
    names = uids()
    batch = BatchPlan()
    owner.plan(batch, names)
    replacements = uids(draw=1000)[:2]
    batch.drop_all_but(set(names[2:]))
    owner.plan(batch, replacements)
    assert sum(batch.n_by_uid.values()) == 64
    assert set(batch.n_by_uid) == {*names[2:], *replacements}


def test_a_prompt_by_prompt_plan_sums_to_the_same_total() -> None:
    owner = budget()
    batch = BatchPlan()
    for name in uids():
        owner.plan(batch, [name])
    assert sum(batch.n_by_uid.values()) == 64


def test_rollouts_of_an_unplanned_prompt_are_an_error() -> None:
    owner = budget()
    batch = BatchPlan()
    owner.plan(batch, uids())
    with pytest.raises(RuntimeError, match="didn't plan"):
        observe(owner, batch, rollouts(["ff-9"], {"ff-9": 2}))


def test_reweighting_gives_every_prompt_the_same_say() -> None:
    owner = budget()
    names = uids()
    rows = rollouts(names, {uid: i + 1 for i, uid in enumerate(names)})
    none_N = torch.zeros(len(rows.keys), dtype=torch.bool)
    weights = owner.loss_weights(rows, none_N)
    assert float(weights.mean()) == pytest.approx(1.0)
    for group in range(PROMPTS):
        assert float(weights[rows.group_ids_N == group].sum()) == pytest.approx(len(rows.keys) / PROMPTS)
    assert bool((budget(reweight_by_n=False).loss_weights(rows, none_N) == 1).all())
    masked_N = torch.tensor([key.sample > 0 for key in rows.keys])
    assert owner.loss_weights(rows, masked_N)[~masked_N].tolist() == [1.0] * PROMPTS  # one is left of each


def test_state_survives_and_a_uid_leads_back_to_its_content() -> None:
    owner, restored = budget(), budget()
    names = uids()
    batch = BatchPlan()
    owner.plan(batch, names)
    observe(owner, batch, rollouts(names, batch.n_by_uid))
    restored.load_state_dict(owner.state_dict())
    batch = BatchPlan()
    assert restored.plan(BatchPlan(), uids(50)).tolist() == owner.plan(batch, uids(50)).tolist()
    assert content_ids(names) == content_ids(uids(50))
    assert len(set(content_ids(names))) == PROMPTS


@pytest.mark.parametrize("signal", ["total_variance", "per_reward", "estimator"])
def test_every_signal_plans_the_step(signal: str) -> None:
    owner = budget(signal=signal)
    names = uids()
    batch = BatchPlan()
    owner.plan(batch, names)
    observe(owner, batch, rollouts(names, batch.n_by_uid))
    batch = BatchPlan()
    n = owner.plan(batch, names)
    assert n.sum() == 64
    assert n[0] < n[1:].min()


def test_the_outcome_is_measured_in_the_signal_that_planned_it() -> None:
    """Prompt 0 always scores 1 and another number of points; only the Bernoulli signal can't see the difference."""
    realized = {}
    for signal in ("bernoulli", "total_variance"):
        owner = budget(signal=signal)
        names = uids()
        for draw in range(2):
            batch = BatchPlan()
            owner.plan(batch, names)
            rows = rollouts(names, batch.n_by_uid)
            rows.rewards_NK[:, 1] = rows.rewards_NK[:, 0] * 4
            metrics = owner.observe(batch, rows, rows.rewards_NK[:, 0], step=draw + 1)
        realized[signal] = metrics["budget/variance/realized"]
        assert metrics["budget/variance/realized"] == pytest.approx(metrics["budget/variance/predicted"], rel=0.25)
    assert realized["total_variance"] == pytest.approx(9 * realized["bernoulli"], rel=0.25)


def test_a_token_budget_divides_tokens_once_lengths_are_known() -> None:
    owner = budget(unit="tokens", signal="total_variance")
    names = uids()
    batch = BatchPlan()
    assert owner.plan(batch, names).tolist() == [8] * PROMPTS  # no length is known: rollouts of equal length
    rows = rollouts(names, batch.n_by_uid)
    rows.lengths_N[:] = torch.where(rows.group_ids_N < 4, 10, 30)
    observe(owner, batch, rows)
    batch = BatchPlan()
    n = owner.plan(batch, names)
    lengths = [10] * 4 + [30] * 4
    spent = sum(count * length for count, length in zip(n.tolist(), lengths, strict=True))
    assert 8 * 8 * 20 - 30 < spent <= 8 * 8 * 20
    assert n[1:4].min() > n[4:].max()  # of equally uncertain prompts the cheaper get more


NAN = float("nan")


def of_groups(scores: list[list[float]], groups: list[int]) -> Rollouts:
    keys = [RowKey(str(group), sample, 0) for sample, group in enumerate(groups)]
    index, rewards_NK = torch.arange(len(keys)), torch.tensor(scores, dtype=torch.float64)
    lengths_N = torch.ones(len(keys))
    return Rollouts(keys, rewards_NK, torch.tensor(groups), lengths_N, index, index, *unsaid(len(keys)))


def test_a_total_is_of_the_rewards_that_apply() -> None:
    rewards = as_config({"names": ("a", "b", "watched"), "weights": {"a": 1.0, "b": 0.5, "watched": 0.0}})
    scores = [[1, NAN, 9], [0, NAN, NAN], [NAN, 1, 9], [NAN, 0, 9], [NAN, NAN, 9], [NAN, NAN, 9]]
    found = totals(of_groups(scores, [0, 0, 1, 1, 2, 2]), rewards)
    assert found.tolist() == pytest.approx([1, 0, 0.5, 0, NAN, NAN], nan_ok=True)


def test_a_score_that_is_missing_beside_others_moves_no_total() -> None:
    rewards = as_config({"names": ("a", "b")})
    assert totals(of_groups([[1, 1], [1, NAN], [1, 0.5]], [0, 0, 0]), rewards).tolist() == [2, 1.75, 1.5]


def test_a_total_counts_a_conditioned_reward_as_the_estimator_does() -> None:
    conditions = [{"reward": "b", "requires": "a", "threshold": 1.0}]
    rewards = as_config({"names": ("a", "b"), "conditions": conditions})
    assert totals(of_groups([[1, 0.5], [0, 0.5], [NAN, 0.5]], [0, 0, 1]), rewards).tolist() == [1.5, 0, 0]


@pytest.mark.parametrize("signal", ["bernoulli", "total_variance", "per_reward", "estimator"])
def test_history_learns_of_prompts_that_have_only_one_of_the_rewards(signal: str) -> None:
    """Half the prompts have reward a, the others b; prompt 0 is mastered."""
    owner = budget(signal=signal)
    names, batch = uids(), BatchPlan()
    owner.plan(batch, names)
    rows = rollouts(names, batch.n_by_uid)
    rows.rewards_NK[:, 1] = 2 * rows.rewards_NK[:, 0]  # of weight 0.5
    of_a = rows.group_ids_N < PROMPTS // 2
    rows.rewards_NK[of_a, 1], rows.rewards_NK[~of_a, 0] = NAN, NAN
    metrics = owner.observe(batch, rows, torch.where(of_a, rows.rewards_NK[:, 0], rows.rewards_NK[:, 1]), step=1)
    assert metrics["budget/zero_signal"] == pytest.approx(1 / PROMPTS)
    again = owner.plan(BatchPlan(), uids(draw=100))
    assert again[0] == 1
    assert again[1:].min() > 4  # the estimator expects half as much of b, by its weight
