"""The covariance law: by hand, with its error, and against what a policy's rewards then do. Shapes: N rollouts, K
rewards, G prompt groups, A actions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings

from mrpo.advantages import compute_advantages
from mrpo.advantages.forecast import CERTAIN, bootstrap, covariances
from mrpo.advantages.groups import Groups

from .strategies import Batch, batches

pytestmark = pytest.mark.unit
NAN = float("nan")


def diagnose(rewards_NK: torch.Tensor, group_ids_N: torch.Tensor, **options: Any) -> dict[str, float]:
    config = {"names": list("abc"[: rewards_NK.shape[1]]), **options}
    return compute_advantages(rewards_NK, group_ids_N, config).diagnostics


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(1, 3), missing=True))
def test_it_is_the_covariance_of_the_rollouts_that_have_a_score(batch: Batch) -> None:
    config = {"estimator": "gdpo", "names": batch.names, "weights": batch.weights}
    result = compute_advantages(batch.rewards_NK, batch.group_ids_N, config)
    for k, name in enumerate(batch.names):
        scored_N = ~batch.rewards_NK[:, k].isnan()
        if scored_N.any():
            pair = torch.stack([batch.rewards_NK[scored_N, k], result.advantages_N[scored_N]])
            expected = float(torch.cov(pair, correction=0)[0, 1]) if int(scored_N.sum()) > 1 else 0.0
            assert result.diagnostics[f"reward/{name}/covariance"] == pytest.approx(expected, abs=1e-9)
        else:
            assert f"reward/{name}/covariance" not in result.diagnostics


def test_a_reward_of_weight_0_that_others_drag_along_is_forecast_and_dropped_rollouts_are_not_counted() -> None:
    rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.0, 0.7]]).double()
    ids_N = torch.tensor([0, 0, 1, 1])
    watched = diagnose(rewards_NK, ids_N, weights={"a": 1.0, "b": 0.0}, batch_norm="none")
    assert watched["reward/b/covariance"] == pytest.approx(-(0.5 + 0.3) / 2 * 2**-0.5)
    dropped = diagnose(rewards_NK, ids_N, estimator="gd2po", mode="hard")
    assert "reward/a/covariance" not in dropped


def test_its_error_shrinks_with_the_prompts_and_holds_the_bootstrap_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    errors = []
    for size in (50, 800):
        ids_N = torch.arange(size).repeat_interleave(4)
        scores_NK = torch.rand(4 * size, 1, generator=generator, dtype=torch.float64)
        advantages_N = scores_NK[:, 0] + torch.randn(4 * size, generator=generator, dtype=torch.float64)
        found = covariances(scores_NK, advantages_N, Groups.of(ids_N), torch.ones(4 * size, dtype=torch.bool))
        low, high = (float(end) for end in bootstrap(found.products_GK, found.count_GK))
        shifted = covariances(scores_NK, advantages_N + 5, Groups.of(ids_N), torch.ones(4 * size, dtype=torch.bool))
        torch.testing.assert_close(shifted.errors_K, found.errors_K)
        covariance, error = float(found.covariance_K), float(found.covariance_K / found.errors_K)
        assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.15)
        assert low < covariance < high
        errors.append(error)
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)


def test_one_prompt_can_not_tell_how_certain_it_is() -> None:
    found = diagnose(torch.tensor([[1.0], [0.0]]), torch.tensor([0, 0]))
    assert "reward/a/covariance" in found
    assert "reward/a/forecast" not in found


@pytest.mark.parametrize("estimator", ["grpo", "gdpo", "dvao", "gd2po", "dara", "rvpo"])
def test_rewards_do_what_was_forecast_of_them(estimator: str) -> None:
    """A softmax policy of 8 actions on each of 200 prompts, one small policy-gradient step. Rewards: one to be learned,
    one that mostly opposes it with a smaller weight, and one that nobody weighs and that depends on neither."""
    generator, prompts, size, actions = torch.Generator().manual_seed(3), 200, 16, 8
    value_PAK = torch.rand(prompts, actions, 3, generator=generator, dtype=torch.float64)
    value_PAK[..., 1] = 0.8 * (1 - value_PAK[..., 0]) + 0.2 * value_PAK[..., 1]
    policy_PA = torch.full((prompts, actions), 1 / actions, dtype=torch.float64)
    action_PN = torch.multinomial(policy_PA, size, replacement=True, generator=generator)
    prompt_N = torch.arange(prompts).repeat_interleave(size)
    rewards_NK = value_PAK[prompt_N, action_PN.flatten()]
    config = {"estimator": estimator, "names": ["a", "b", "c"], "weights": {"a": 1.0, "b": 0.3, "c": 0.0}}
    result = compute_advantages(rewards_NK, prompt_N, config)
    logits_PA = torch.zeros(prompts, actions, dtype=torch.float64)
    kept_N = result.advantages_N * result.keep_N
    logits_PA.index_put_((prompt_N, action_PN.flatten()), 0.01 * kept_N, accumulate=True)
    moved_PA = logits_PA.softmax(dim=1)
    change_K = ((moved_PA - policy_PA)[..., None] * value_PAK).sum(dim=1).mean(dim=0)
    a, b, c = (result.diagnostics[f"reward/{name}/forecast"] for name in "abc")
    assert a > CERTAIN
    assert change_K[0] > 0
    assert b < (0 if estimator == "gd2po" else -CERTAIN)  # which leaves most of the conflict out
    assert change_K[1] < 0
    assert abs(c) < 2 * CERTAIN
    assert abs(change_K[2]) < 0.4 * abs(change_K[0])
