"""Group statistics that lean on history: exact limits, by hand, and what they gain and cost. Shapes: N rollouts, K
rewards, G prompt groups, C columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.advantages import AdvantageResult, GroupHistory, compute_advantages
from mrpo.config.estimators import ESTIMATOR_CONFIGS
from mrpo.errors import ConfigError

from .strategies import Batch, batches

pytestmark = pytest.mark.unit
SHRINKING = sorted(name for name, model in ESTIMATOR_CONFIGS.items() if model.shrinks)
every_estimator = pytest.mark.parametrize("estimator", SHRINKING)


def history_of(batch: Batch, rollouts: float, seed: int = 0) -> GroupHistory:
    """A random past of each group's prompt."""
    groups, columns = len(batch.group_ids_N.unique()), len(batch.names) + (len(batch.names) > 1)
    generator = torch.Generator().manual_seed(seed)
    mean_GC, variance_GC = (torch.rand(2, groups, columns, generator=generator, dtype=torch.float64)).unbind()
    return GroupHistory(torch.full_like(mean_GC, rollouts), mean_GC, variance_GC / 4)


def run(batch: Batch, estimator: str, history: GroupHistory | None = None, **options: Any) -> AdvantageResult:
    config = {"estimator": estimator, "names": batch.names, "weights": batch.weights, **options}
    return compute_advantages(batch.rewards_NK, batch.group_ids_N, config, lengths_N=batch.lengths_N, history=history)


@every_estimator
@settings(max_examples=12, deadline=None)
@given(batch=batches(missing=True))
def test_a_prompt_without_history_is_compared_in_its_group_alone(estimator: str, batch: Batch) -> None:
    options: dict[str, Any] = {"shrinkage": {"strength": 5.0}}
    plain_N = run(batch, estimator).advantages_N
    assert torch.equal(run(batch, estimator, **options).advantages_N, plain_N)
    assert torch.equal(run(batch, estimator, history_of(batch, 0), **options).advantages_N, plain_N)


@settings(max_examples=25, deadline=None)
@given(batch=batches(group_sizes=(2, 6)))
def test_a_strength_near_0_is_the_plain_group(batch: Batch) -> None:
    """Where a reward varies; where it doesn't, any history at all tells whether the group did better than before."""
    options: dict[str, Any] = {"estimator": "advantage_combination", "batch_norm": "none"}
    varies_N = torch.ones(len(batch.group_ids_N), dtype=torch.bool)
    for group in batch.group_ids_N.unique():
        in_group_N = batch.group_ids_N == group
        varies_N[in_group_N] = all(len(column.unique()) > 1 for column in batch.rewards_NK[in_group_N].T)
    near_N = run(batch, history=history_of(batch, 50), shrinkage={"strength": 1e-10}, **options).advantages_N
    torch.testing.assert_close(near_N[varies_N], run(batch, **options).advantages_N[varies_N], atol=1e-6, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(batch=batches(rewards=(1, 1), missing=True), seed=st.integers(0, 9))
def test_an_endless_history_of_endless_strength_is_all_that_counts(batch: Batch, seed: int) -> None:
    """A = (r - mean of the history) / its standard deviation, in groups of one, too."""
    history = history_of(batch, 1e12, seed)
    found = run(batch, "advantage_combination", history, shrinkage={"strength": 1e12}, weights={"a": 1.0})
    index_N = torch.unique(batch.group_ids_N, return_inverse=True)[1]
    mean_N, std_N = history.mean_GC[index_N, 0], history.variance_GC[index_N, 0].sqrt()
    expected_N = ((batch.rewards_NK[:, 0] - mean_N) / std_N).nan_to_num(nan=0.0)
    torch.testing.assert_close(found.advantages_N, expected_N, atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(batch=batches(rewards=(1, 1), group_sizes=(1, 4)), past=st.lists(st.booleans(), min_size=2, max_size=6))
def test_a_strength_beyond_the_history_pools_all_rollouts(batch: Batch, past: list[bool]) -> None:
    """As if they were one group, but for the history's own variance, which is unbiased."""
    past_N = torch.tensor(past, dtype=torch.float64)
    groups, size = len(batch.group_ids_N.unique()), len(past)
    columns = (torch.full((groups, 1), float(value)) for value in (size, past_N.mean(), past_N.var()))
    history = GroupHistory(*(column.double() for column in columns))
    found_N = run(batch, "advantage_combination", history, shrinkage={"strength": 1e9}, weights={"a": 1}).advantages_N
    for group in batch.group_ids_N.unique():
        rows_N = batch.rewards_NK[batch.group_ids_N == group, 0]
        count, mean = size + len(rows_N), (past_N.sum() + rows_N.sum()) / (size + len(rows_N))
        second = (size * (past_N.var() + past_N.mean() ** 2) + rows_N.square().sum()) / count
        std = ((second - mean**2) * count / (count - 1)).clamp(min=0).sqrt()
        expected_N = (rows_N - mean) / std if float(std) > 1e-6 else torch.zeros_like(rows_N)
        torch.testing.assert_close(found_N[batch.group_ids_N == group], expected_N, atol=1e-6, rtol=1e-6)


def by_hand(rewards: list[list[float]], history: tuple[float, float, float], **options: Any) -> list[float]:
    columns = (torch.full((1, 1), value, dtype=torch.float64) for value in history)
    config = {"estimator": "grpo", "names": ["a"], "shrinkage": {"strength": 3.0}, **options}
    rewards_NK = torch.tensor(rewards, dtype=torch.float64)
    ids_N = torch.zeros(len(rewards), dtype=torch.int64)
    return compute_advantages(rewards_NK, ids_N, config, history=GroupHistory(*columns)).advantages_N.tolist()


@pytest.mark.parametrize("options", [{}, {"estimator": "advantage_combination"}, {"weights": {"a": 7.0}}])
def test_a_group_of_one_by_hand(options: dict[str, Any]) -> None:
    """Three rollouts' worth of mean 1/3 and variance 1/3, and a success: m = 1/2, E2 = (3 (1/3 + 1/9) + 1) / 4 = 7/12,
    s^2 = (7/12 - 1/4) 4/3 = 4/9, so 3/4. Weighed with 7: the same for GRPO."""
    assert by_hand([[1]], (10, 1 / 3, 1 / 3), **options) == pytest.approx([0.75])


def test_a_failed_group_of_a_prompt_that_is_mostly_solved_is_blamed() -> None:
    """m = (3 x .8 + 2 x 0) / 5 = .48, E2 = 3 (.16 + .64) / 5 = .48, s^2 = (.48 - .2304) 5/4 = .312."""
    assert by_hand([[0], [0]], (10, 0.8, 0.16)) == pytest.approx([-0.48 / 0.312**0.5] * 2)
    assert by_hand([[0.3], [0.3]], (10, float(torch.tensor(0.3)), 0.0)) == [0, 0], "float32 is no difference"


@every_estimator
def test_a_group_of_one_teaches_by_its_history(estimator: str) -> None:
    """A success of a prompt that mostly fails, and a failure of one that mostly succeeds."""
    rewards_NK, ids_N = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 1])
    mean_GC = torch.tensor([[0.2, 0.2, 0.4], [0.8, 0.8, 1.6]]).double()
    history = GroupHistory(torch.full_like(mean_GC, 20), mean_GC, torch.full_like(mean_GC, 0.16))
    config = {"estimator": estimator, "names": ["a", "b"], "shrinkage": {"strength": 8}}
    up, down = compute_advantages(rewards_NK, ids_N, config, history=history).advantages_N.tolist()
    assert up > 0 > down
    alone = compute_advantages(rewards_NK, ids_N, {"estimator": estimator, "names": ["a", "b"]})
    assert alone.advantages_N.tolist() == [0, 0]


def test_small_groups_rank_rollouts_better_with_history_and_pay_with_bias_where_the_policy_moved() -> None:
    """2000 prompts of binary rewards, groups of 2, a past of 16 rollouts at the same rate, or at one .3 lower."""
    generator = torch.Generator().manual_seed(0)
    rate_G = 0.35 + 0.6 * torch.rand(2000, generator=generator, dtype=torch.float64)
    rewards_NK = torch.bernoulli(rate_G.repeat_interleave(2), generator=generator)[:, None]
    ids_N = torch.arange(2000).repeat_interleave(2)
    ideal_N = (rewards_NK[:, 0] - rate_G[ids_N]) / (rate_G * (1 - rate_G)).sqrt()[ids_N]
    errors, biases = {}, {}
    for name, drift in (("plain", 0.0), ("same", 0.0), ("moved", 0.3)):
        past_GN = torch.bernoulli((rate_G - drift)[:, None].expand(-1, 16), generator=generator)
        columns = torch.full((2000, 1), 16.0).double(), past_GN.mean(dim=1)[:, None], past_GN.var(dim=1)[:, None]
        config: dict[str, Any] = {"estimator": "grpo", "names": ["a"]}
        config |= {} if name == "plain" else {"shrinkage": {"strength": 8}}
        history = None if name == "plain" else GroupHistory(*columns)
        advantages_N = compute_advantages(rewards_NK, ids_N, config, history=history).advantages_N
        errors[name], biases[name] = float((advantages_N - ideal_N).square().mean()), float(advantages_N.mean())
    assert errors["same"] < errors["plain"] / 3
    assert abs(biases["plain"]) < 1e-9
    assert abs(biases["same"]) < 0.05
    assert biases["moved"] > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "corr_grpo"}, "shrinkage: given with corr_grpo, which has no use for it"),
        ({"estimator": "saw"}, "shrinkage: given with saw"),
        ({"preset": "nemo"}, "shrinkage: given with preset nemo"),
        ({"shrinkage": {"strength": 0}}, "shrinkage.strength: given 0"),
        ({"shrinkage": {"predictor": "beta"}}, "shrinkage.predictor: given 'beta'"),
        ({"shrinkage": {"predictor": "cumulative", "decay": 0.9}}, "decay: given 0.9, which has no effect"),
    ],
)
def test_what_has_no_use_for_history_is_refused(options: dict[str, Any], message: str) -> None:
    config = {"names": ["a"], "shrinkage": {"strength": 8}, **options}
    with pytest.raises(ConfigError, match=message):
        compute_advantages(torch.ones(2, 1), torch.zeros(2, dtype=torch.int64), config)


def test_a_history_of_another_shape_or_without_shrinkage_is_refused() -> None:
    history = GroupHistory(*(torch.ones(1, 1, dtype=torch.float64) for _ in range(3)))
    rewards_NK, ids_N = torch.rand(2, 2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"history: given shape \(1, 1\), allowed: \(1, 3\)"):
        compute_advantages(rewards_NK, ids_N, {"names": ["a", "b"], "shrinkage": {}}, history=history)
    with pytest.raises(ValueError, match="shrinkage isn't set"):
        compute_advantages(rewards_NK, ids_N, {"names": ["a", "b"]}, history=history)
