"""Conditioning, weights, and what is refused with which words. Shapes: N rollouts, K rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrpo.advantages import as_config, compute_advantages
from mrpo.advantages.conditioning import condition_rewards
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.config.advantage import AdvantageConfig, Condition, RewardSpec
from mrpo.config.estimators import Gd2poConfig, GroupNormConfig
from mrpo.errors import ConfigError

from .strategies import Batch, batches

pytestmark = pytest.mark.unit
NAN = float("nan")
REWARDS_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
IDS_N = torch.zeros(3, dtype=torch.int64)


def conditioned(rewards: list[list[float]], *links: tuple[str, str, float]) -> list[list[float]]:
    rules = [Condition(reward=reward, requires=requires, threshold=threshold) for reward, requires, threshold in links]
    return condition_rewards(torch.tensor(rewards), "abc", rules).tolist()


@settings(max_examples=40, deadline=None)
@given(batches(rewards=(3, 3), missing=True), st.floats(0, 1))
def test_conditioned_reward_is_0_below_the_threshold_and_untouched_above(batch: Batch, threshold: float) -> None:
    rule = (Condition(reward="b", requires="a", threshold=threshold),)
    once_NK = condition_rewards(batch.rewards_NK, batch.names, rule)
    met_N = batch.rewards_NK[:, 0] >= threshold
    assert once_NK[~met_N, 1].eq(0).all()
    torch.testing.assert_close(once_NK[met_N], batch.rewards_NK[met_N], equal_nan=True)
    twice_NK = condition_rewards(once_NK, batch.names, rule)
    torch.testing.assert_close(twice_NK, once_NK, equal_nan=True)


def test_a_missing_requirement_is_not_met_and_a_missing_easy_reward_stays_missing_only_if_met() -> None:
    rewards = conditioned([[NAN, 0.7, 0], [1, NAN, 0], [0, NAN, 0]], ("b", "a", 1))
    assert rewards[0][1] == 0
    assert rewards[1][1] != rewards[1][1]
    assert rewards[2][1] == 0


def test_chains_are_judged_on_the_rewards_as_given() -> None:
    """c needs b, b needs a. Where only a fails, b is 0 but c counts, unless its link to a is stated, too."""
    row: list[list[float]] = [[0, 1, 1]]
    chain = (("c", "b", 1.0), ("b", "a", 1.0))
    assert conditioned(row, *chain) == conditioned(row, *chain[::-1]) == [[0, 0, 1]]
    assert conditioned(row, *chain, ("c", "a", 1.0)) == [[0, 0, 0]]


def test_a_penalty_needs_its_own_value_where_the_condition_fails() -> None:
    rule = (Condition(reward="b", requires="a", threshold=1, otherwise=-1),)
    assert condition_rewards(torch.tensor([[0.0, -0.2]]), "ab", rule).tolist() == [[0, -1]]


def soft(rewards: Tensor, *links: tuple[str, str, float | None, float], **ranges: tuple[float, float]) -> Tensor:
    rules = [Condition(reward=r, requires=q, threshold=t, retain=retain) for r, q, t, retain in links]
    return condition_rewards(rewards, "abc", rules, ranges)


@settings(max_examples=40, deadline=None)
@given(batches(rewards=(3, 3), missing=True), st.floats(0, 1))
def test_a_soft_condition_lies_between_the_gate_and_none(batch: Batch, retain: float) -> None:
    gate = (Condition(reward="b", requires="a", threshold=0.5),)
    gated_NK = condition_rewards(batch.rewards_NK, "abc", gate)
    torch.testing.assert_close(soft(batch.rewards_NK, ("b", "a", 0.5, 0)), gated_NK, atol=0, rtol=0, equal_nan=True)
    none_NK = soft(batch.rewards_NK, ("b", "a", 0.5, 1))
    torch.testing.assert_close(none_NK, batch.rewards_NK, atol=0, rtol=0, equal_nan=True)
    between_NK = soft(batch.rewards_NK, ("b", "a", 0.5, retain))
    met_N = batch.rewards_NK[:, 0] >= 0.5
    torch.testing.assert_close(between_NK[met_N], batch.rewards_NK[met_N], atol=0, rtol=0, equal_nan=True)
    if retain > 0:
        unmet_NK = batch.rewards_NK[~met_N] * torch.tensor([1.0, retain, 1.0])
        torch.testing.assert_close(between_NK[~met_N], unmet_NK, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(batches(rewards=(3, 3)), st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)))
def test_soft_conditions_along_a_graph_are_gears_formula(batch: Batch, retain: tuple[float, float, float]) -> None:
    """b requires a, c requires a and b: q_k = p_k prod_j (q_j + (1 - q_j) lambda_jk), in any order of the links."""
    p_a, p_b, p_c = batch.rewards_NK.unbind(dim=1)
    q_b = p_b * (p_a + (1 - p_a) * retain[0])
    q_c = p_c * (p_a + (1 - p_a) * retain[1]) * (q_b + (1 - q_b) * retain[2])
    links = [("b", "a", None, retain[0]), ("c", "a", None, retain[1]), ("c", "b", None, retain[2])]
    for ordered in (links, links[::-1]):
        torch.testing.assert_close(soft(batch.rewards_NK, *ordered), torch.stack([p_a, q_b, q_c], dim=1))


def test_a_soft_condition_by_hand() -> None:
    """Right, and so full of format; wrong, and a fifth of it. Then c, which asks for b as far as that counts itself."""
    rewards = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [NAN, 1.0, 1.0]]).double()
    links = [("b", "a", 1.0, 0.2), ("c", "b", 1.0, 0.6)]
    expected = [[1, 1, 1], [0, 0.2, 0.68], [1, 0, 0.3], [NAN, 0.2, 0.68]]
    torch.testing.assert_close(soft(rewards, *links), torch.tensor(expected).double(), equal_nan=True)
    graded = torch.tensor([[-3.0, 1.0, 0.0], [0.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    assert soft(graded, ("b", "a", None, 0.2), a=(-3.0, 3.0))[:, 1].tolist() == pytest.approx([0.2, 0.6, 1])


def test_a_hard_condition_on_a_soft_one_and_a_penalty_that_keeps_a_part() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0]])
    hard = Condition(reward="c", requires="b", threshold=1)
    weak = Condition(reward="b", requires="a", threshold=1, retain=0.6)
    assert condition_rewards(rewards, "abc", [hard, weak])[0].tolist() == pytest.approx([0, 0.6, 1])
    soft_on_hard = [
        Condition(reward="c", requires="b", threshold=1, retain=0.5),
        Condition(reward="b", requires="a", threshold=1),
    ]
    assert condition_rewards(rewards, "abc", soft_on_hard)[0].tolist() == [0, 0, 0.5]
    penalty = Condition(reward="b", requires="a", threshold=1, retain=0.5, otherwise=-1)
    assert condition_rewards(torch.tensor([[0.0, -0.2]]), "ab", [penalty])[0].tolist() == pytest.approx([0, -0.6])


def test_what_rewards_declare_goes_with_every_estimator() -> None:
    declared: dict[str, Any] = {
        "names": ["a", "b"],
        "weights": {"a": 1.0, "b": 0.5},
        "conditions": [{"reward": "b", "requires": "a", "threshold": 0.5}],
        "ranges": {"a": [0, 2]},
        "noise_variance": {"b": 0.01},
    }
    for name in ESTIMATORS.names():
        assert compute_advantages(REWARDS_NK, IDS_N, {"estimator": name, **declared}).advantages_N.isfinite().all()


def test_another_estimator_takes_over_the_options_that_it_has_too() -> None:
    gd2po = as_config({"estimator": "gd2po", "names": ["a", "b"], "tau": 0.3, "clip": 2.0, "ddof": 0})
    gdpo, dvao = gd2po.for_estimator("gdpo"), gd2po.for_estimator("dvao")
    assert gdpo.algorithm.model_dump(exclude_unset=True) == {"estimator": "gdpo", "clip": 2.0, "ddof": 0}
    assert dvao.algorithm.model_dump(exclude_unset=True) == {"estimator": "dvao", "clip": 2.0}
    assert gdpo.rewards == gd2po.rewards


def test_options_of_a_typed_config_change_by_name_and_are_checked() -> None:
    config = as_config({"names": ["a", "b"], "weights": {"a": 1.0, "b": 2.0}})
    assert config.with_options(batch_norm="none").algorithm.batch_norm == "none"
    assert config.with_options(batch_norm="none").weights == {"a": 1.0, "b": 2.0}
    with pytest.raises(ConfigError, match="batch_norm: given 'nine'"):
        config.with_options(batch_norm="nine")
    with pytest.raises(ConfigError, match="unknown key 'batch_norm'"):
        config.model_copy(update={"batch_norm": "none"})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"estimator": "gdop"}, r"unknown name 'gdop'\. Did you mean 'gdpo'\?"),
    ({"preset": "ver"}, "preset: given 'ver'.*'paper', 'verl', 'trl', 'nemo' or 'swift'"),
    ({"batch_norm": "tokens"}, "batch_norm: given 'tokens'"),
    ({"estimator": None}, "estimator: unknown name None"),
    ({"tua": 0.5}, r"unknown key 'tua'\. Did you mean 'tau'\?"),
    ({"wieghts": {"a": 1}}, r"unknown key 'wieghts'\. Did you mean 'weights'\?"),
    ({"tau": 0.5}, "^tau: gdpo has no such option, only gd2po. Allowed with gdpo: batch_norm, "),
    ({"estimator": "dvao", "ddof": 0}, "ddof: dvao has no such option, only advantage_combination, corr_grpo,"),
    ({"exclude_flat": True}, "exclude_flat: is now exclude_zero_variance"),
    ({"estimator": "gd2po", "tau": 1.5}, "tau: given 1.5, input should be less than or equal to 1"),
    ({"estimator": "gd2po", "tau": -0.1}, "tau: given -0.1"),
    ({"clip": 0}, "clip: given 0"),
    ({"names": ["a", "a"]}, "names: given .*only once"),
    ({"names": []}, "names: given none"),
    ({"weights": {"a": 1}}, "weights: given .* nothing for 'b'"),
    ({"weights": {"a": 1, "bb": 1}}, r"weights \(reward\): unknown name 'bb'"),
    ({"weights": {"a": -1, "b": 1}}, "weights.a: given -1, input should be greater than or equal to 0"),
    ({"weights": {"a": 0, "b": 0}}, "weights: given .* at least one above 0"),
    ({"weights": {"a": NAN, "b": 1}}, "weights.a: given nan"),
    ({"ranges": {"a": [1, 1]}}, "ranges.a: given"),
    ({"ranges": {"x": [0, 1]}}, r"ranges \(reward\): unknown name 'x'"),
    ({"noise_variance": {"a": -0.1}}, "noise_variance.a: given -0.1"),
    ({"noise_variance": {"x": 0.1}}, r"noise_variance \(reward\): unknown name 'x'"),
    ({"estimator": "dara", "form": "asymmetric"}, "form: given 'asymmetric', input should be 'asym' or 'sym'"),
    ({"estimator": "dara", "w_max": 0.5}, "w_max: given 0.5, input should be greater than or equal to 1"),
    ({"estimator": "rvpo", "beta": 0}, "beta: given 0, input should be greater than 0"),
    ({"estimator": "papo", "outcome": "x"}, r"outcome \(reward\): unknown name 'x'"),
    ({"conditions": [{"reward": "a", "requires": "x", "threshold": 1}]}, r"conditions.requires \(reward\).*'x'"),
    ({"conditions": [{"reward": "a", "requires": "b"}]}, "conditions.0.threshold: is required and not set"),
    ({"conditions": [{"reward": "a", "requires": "b", "threshold": None}]}, "threshold: given none without retain"),
    (
        {"conditions": [{"reward": "a", "requires": "b", "threshold": None, "retain": 0.2}]},
        "ranges: nothing for reward 'b', which 'a' requires without a threshold",
    ),
    (
        {"conditions": [{"reward": "a", "requires": "b", "threshold": 1, "retain": 1.2}]},
        "conditions.0.retain: given 1.2",
    ),
    ({"conditions": [{"reward": "a", "requires": "a", "threshold": 1}]}, "a cycle: a requires a"),
    (
        {
            "conditions": [
                {"reward": "a", "requires": "b", "threshold": 1},
                {"reward": "b", "requires": "a", "threshold": 1},
            ]
        },
        "a cycle: a requires b requires a",
    ),
]


@pytest.mark.parametrize(
    ("options", "message"), REFUSED, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_a_wrong_setting_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compute_advantages(REWARDS_NK, IDS_N, {"names": ["a", "b"], **options})


@pytest.mark.parametrize("estimator", ["dvao", "saw", "sa_mrpo"])
def test_a_scale_dependent_estimator_needs_the_range_of_a_reward_outside_0_to_1(estimator: str) -> None:
    rewards_NK = REWARDS_NK * torch.tensor([3.0, 1.0])
    options: dict[str, Any] = {"estimator": estimator, "names": ["a", "b"]}
    with pytest.raises(ConfigError, match=f"ranges: nothing for reward 'a'.*'{estimator}'"):
        compute_advantages(rewards_NK, IDS_N, options)
    compute_advantages(rewards_NK, IDS_N, {**options, "ranges": {"a": [0, 3]}})
    compute_advantages(rewards_NK, IDS_N, {**options, "weights": {"a": 0, "b": 1}})


@pytest.mark.parametrize(
    ("rewards_NK", "ids_N", "lengths_N", "message"),
    [
        (REWARDS_NK[:, :1], IDS_N, None, r"rewards_NK: given shape \(3, 1\), allowed: \(N, 2\)"),
        (REWARDS_NK[:, 0], IDS_N, None, r"rewards_NK: given shape \(3,\)"),
        (REWARDS_NK, IDS_N[:2], None, r"group_ids_N: given shape \(2,\), allowed: \(3,\)"),
        (REWARDS_NK, IDS_N.float(), None, "group_ids_N: given dtype torch.float32"),
        (REWARDS_NK, IDS_N, IDS_N[:2], r"lengths_N: given shape \(2,\)"),
        (REWARDS_NK, IDS_N, IDS_N - 1, "lengths_N: given -1"),
        (REWARDS_NK / torch.tensor([1.0, 0.0]), IDS_N, None, "reward 'b' is inf in row 1"),
    ],
)
def test_a_wrong_array_is_refused_by_name(rewards_NK: Tensor, ids_N: Tensor, lengths_N: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_advantages(rewards_NK, ids_N, {"names": ["a", "b"]}, lengths_N=lengths_N)


@pytest.mark.parametrize("options", [{"batch_norm": "token"}, {"preset": "verl"}])
def test_token_norm_without_lengths_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="lengths_N: given none"):
        compute_advantages(REWARDS_NK, IDS_N, {"names": ["a", "b"], **options})


def test_integer_rewards_are_rewards() -> None:
    result = compute_advantages(torch.tensor([[1], [0]]), torch.tensor([5, 5]), {"names": ["a"], "batch_norm": "none"})
    assert result.advantages_N.tolist() == pytest.approx([2**-0.5, -(2**-0.5)])


def test_a_typed_config_is_taken_as_it_is_and_is_what_the_mapping_says() -> None:
    config = AdvantageConfig(
        algorithm=Gd2poConfig(tau=0.5),
        rewards=(RewardSpec(name="a"), RewardSpec(name="b", weight=0.5, range=(0, 2), noise_variance=0.1)),
    )
    assert as_config(config) is config
    mapping: dict[str, Any] = {
        "estimator": "gd2po",
        "tau": 0.5,
        "names": ["a", "b"],
        "weights": {"a": 1, "b": 0.5},
        "ranges": {"b": [0, 2]},
        "noise_variance": {"b": 0.1},
    }
    assert as_config(mapping) == config


def test_an_estimator_with_options_of_its_own_needs_their_class() -> None:
    with pytest.raises(ValueError, match="estimator: given 'gd2po'"):
        GroupNormConfig(estimator="gd2po")
