"""The step's total stays what it was, through refills; history is found by a prompt's content."""

from __future__ import annotations

import pytest
import torch

from mrpo.budget.ids import content_ids, prompt_uid
from mrpo.config.advantage import as_config
from mrpo.config.allocators import parse_budget
from mrpo.step.budget import RolloutBudget
from mrpo.step.rollouts import RolloutRows, RowKey

pytestmark = pytest.mark.unit

PROMPTS = 8


def budget(**settings: object) -> RolloutBudget:
    config = parse_budget({"method": "neyman", "low": 1, "high": 32, "rollouts_per_prompt": 8} | settings)
    return RolloutBudget(config, as_config({"names": ("a", "b"), "weights": {"a": 1.0, "b": 0.5}}), PROMPTS)


def uids(draw: int = 0) -> list[str]:
    return [prompt_uid([{"role": "user", "content": str(i)}], "x", "test", draw + i) for i in range(PROMPTS)]


def rollouts(names: list[str], planned: dict[str, int]) -> RolloutRows:
    """Rows in which prompt 0 is always right, and the others are right every other time."""
    keys = [RowKey(uid, session, 0) for uid in names for session in range(planned[uid])]
    scores = [[1.0 if names.index(k.uid) == 0 else float(k.session % 2), 0.0] for k in keys]
    groups, index = torch.tensor([names.index(k.uid) for k in keys]), torch.arange(len(keys))
    rewards_NK, lengths_N = torch.tensor(scores, dtype=torch.float64), torch.ones(len(keys))
    return RolloutRows(keys, rewards_NK, groups, lengths_N, index, index, [{}] * len(keys))


def observe(plan: RolloutBudget, rows: RolloutRows) -> dict[str, float]:
    return plan.observe(rows, rows.rewards_NK[:, 0] - 0.5, step=1)


def test_history_moves_rollouts_from_a_mastered_prompt_to_mixed_ones() -> None:
    plan = budget()
    names = uids()
    plan.begin_step()
    assert plan.plan(names).tolist() == [8] * PROMPTS  # nothing is known yet
    metrics = observe(plan, rollouts(names, plan.planned))
    assert metrics["budget/zero_signal"] == pytest.approx(1 / PROMPTS)
    plan.begin_step()
    again = plan.plan(uids(draw=100))
    assert again.sum() == 64
    assert again[0] == 1
    assert again[1:].min() > 8


def test_replacements_get_what_the_prompts_they_replace_had() -> None:
    plan = budget()
    names = uids()
    plan.begin_step()
    plan.plan(names)
    replacements = uids(draw=1000)[:2]
    plan.plan(replacements, given_up=names[:2])
    assert sum(plan.planned.values()) == 64
    assert set(plan.planned) == {*names[2:], *replacements}


def test_a_prompt_by_prompt_plan_sums_to_the_same_total() -> None:
    plan = budget()
    plan.begin_step()
    for name in uids():
        plan.plan([name])
    assert sum(plan.planned.values()) == 64


def test_rollouts_of_an_unplanned_prompt_are_an_error() -> None:
    plan = budget()
    plan.begin_step()
    plan.plan(uids())
    with pytest.raises(RuntimeError, match="didn't plan"):
        observe(plan, rollouts(["ff-9"], {"ff-9": 2}))


def test_reweighting_gives_every_prompt_the_same_say() -> None:
    plan = budget()
    names = uids()
    rows = rollouts(names, {uid: i + 1 for i, uid in enumerate(names)})
    weights = plan.loss_weights(rows)
    assert float(weights.mean()) == pytest.approx(1.0)
    for group in range(PROMPTS):
        assert float(weights[rows.group_ids_N == group].sum()) == pytest.approx(len(rows.keys) / PROMPTS)
    assert bool((budget(reweight_by_n=False).loss_weights(rows) == 1).all())


def test_state_survives_and_a_uid_leads_back_to_its_content() -> None:
    plan, restored = budget(), budget()
    names = uids()
    plan.begin_step()
    plan.plan(names)
    observe(plan, rollouts(names, plan.planned))
    restored.load_state_dict(plan.state_dict())
    restored.begin_step()
    plan.begin_step()
    assert restored.plan(uids(50)).tolist() == plan.plan(uids(50)).tolist()
    assert content_ids(names) == content_ids(uids(50))
    assert len(set(content_ids(names))) == PROMPTS


@pytest.mark.parametrize("signal", ["total_variance", "per_reward", "estimator"])
def test_every_signal_plans_the_step(signal: str) -> None:
    plan = budget(signal=signal)
    names = uids()
    plan.begin_step()
    plan.plan(names)
    observe(plan, rollouts(names, plan.planned))
    plan.begin_step()
    n = plan.plan(names)
    assert n.sum() == 64
    assert n[0] < n[1:].min()


def test_the_outcome_is_measured_in_the_signal_that_planned_it() -> None:
    """Prompt 0 always scores 1 and another number of points; only the Bernoulli signal can't see the difference."""
    realized = {}
    for signal in ("bernoulli", "total_variance"):
        plan = budget(signal=signal)
        names = uids()
        for draw in range(2):
            plan.begin_step()
            plan.plan(names)
            rows = rollouts(names, plan.planned)
            rows.rewards_NK[:, 1] = rows.rewards_NK[:, 0] * 4
            metrics = plan.observe(rows, rows.rewards_NK[:, 0], step=draw + 1)
        realized[signal] = metrics["budget/variance/realized"]
        assert metrics["budget/variance/realized"] == pytest.approx(metrics["budget/variance/predicted"], rel=0.25)
    assert realized["total_variance"] == pytest.approx(9 * realized["bernoulli"], rel=0.25)


def test_a_token_budget_divides_tokens_once_lengths_are_known() -> None:
    plan = budget(unit="tokens", signal="total_variance")
    names = uids()
    plan.begin_step()
    assert plan.plan(names).tolist() == [8] * PROMPTS  # no length is known: rollouts of equal length
    rows = rollouts(names, plan.planned)
    rows.lengths_N[:] = torch.where(rows.group_ids_N < 4, 10, 30)
    observe(plan, rows)
    plan.begin_step()
    n = plan.plan(names)
    lengths = [10] * 4 + [30] * 4
    spent = sum(count * length for count, length in zip(n.tolist(), lengths, strict=True))
    assert 8 * 8 * 20 - 30 < spent <= 8 * 8 * 20
    assert n[1:4].min() > n[4:].max()  # of equally uncertain prompts the cheaper get more
