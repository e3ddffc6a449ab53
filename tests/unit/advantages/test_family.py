"""What holds for every estimator: missing, constant and lone scores, order, scale. Shapes: N rollouts, K rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mrpo.advantages import AdvantageResult, GroupHistory, compute_advantages, compute_each
from mrpo.config.estimators import ESTIMATOR_CONFIGS

from .strategies import ESTIMATORS, Batch, batches

pytestmark = pytest.mark.unit
FORMS: list[dict[str, Any]] = [{"estimator": name} for name in ESTIMATORS] + [
    {"estimator": "grpo", "std": False},
    {"estimator": "gd2po", "mode": "hard"},
    {"estimator": "gd2po", "query_weight": "loss"},
    {"estimator": "corr_grpo", "form": "gdpo"},
    {"estimator": "saw", "form": "gdpo"},
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
NAN = float("nan")


def run(batch: Batch, form: dict[str, Any], **options: Any) -> AdvantageResult:
    config = {"names": batch.names, "weights": batch.weights, **form, **options}
    return compute_advantages(batch.rewards_NK, batch.group_ids_N, config, lengths_N=batch.lengths_N)


def advantages(
    rewards: Sequence[Sequence[float]], groups: list[int], form: dict[str, Any], **options: Any
) -> list[float]:
    names = list("abcd"[: len(rewards[0])])
    config = {"names": names, **form, **options}
    return compute_advantages(torch.tensor(rewards), torch.tensor(groups), config).advantages_N.tolist()


@every_form
@settings(max_examples=25, deadline=None)
@given(batch=batches(missing=True))
def test_any_batch_has_finite_advantages_and_unscored_rollouts_leave(form: dict[str, Any], batch: Batch) -> None:
    result = run(batch, form)
    unscored_N = batch.rewards_NK.isnan().all(dim=1)
    assert result.advantages_N.isfinite().all()
    assert result.advantages_N[unscored_N].eq(0).all()
    assert not result.keep_N[unscored_N].any()
    assert result.advantages_N[~result.keep_N].eq(0).all()
    assert all(isinstance(value, float) and value == value for value in result.diagnostics.values())


@every_form
@settings(max_examples=15, deadline=None)
@given(batch=batches(missing=True), data=st.data())
def test_row_order_is_irrelevant(form: dict[str, Any], batch: Batch, data: st.DataObject) -> None:
    order_N = torch.tensor(data.draw(st.permutations(range(len(batch.group_ids_N)))))
    config = {"names": batch.names, "weights": batch.weights, **form}
    shuffled = compute_advantages(
        batch.rewards_NK[order_N], batch.group_ids_N[order_N] * 3 - 7, config, lengths_N=batch.lengths_N[order_N]
    )
    torch.testing.assert_close(shuffled.advantages_N, run(batch, form).advantages_N[order_N], atol=1e-6, rtol=1e-6)


@every_form
@settings(max_examples=15, deadline=None)
@given(batch=batches(rewards=(2, 4), missing=True))
def test_reward_order_is_irrelevant(form: dict[str, Any], batch: Batch) -> None:
    first = {"outcome": batch.names[0]} if form["estimator"] == "papo" else {}
    reversed_batch = Batch(
        batch.rewards_NK.flip(1), batch.group_ids_N, batch.lengths_N, batch.names[::-1], batch.weights
    )
    given_N, reversed_N = run(batch, form, **first).advantages_N, run(reversed_batch, form, **first).advantages_N
    torch.testing.assert_close(reversed_N, given_N, atol=1e-6, rtol=1e-6)


@every_form
@settings(max_examples=15, deadline=None)
@given(batch=batches(rewards=(1, 3)))
def test_a_reward_of_weight_0_is_ignored_even_if_missing(form: dict[str, Any], batch: Batch) -> None:
    rows = len(batch.group_ids_N)
    extra_N = torch.rand(rows, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    extra_N[::2] = NAN
    wider = Batch(
        torch.cat((batch.rewards_NK, extra_N[:, None]), dim=1),
        batch.group_ids_N,
        batch.lengths_N,
        (*batch.names, "ignored"),
        {**batch.weights, "ignored": 0.0},
    )
    torch.testing.assert_close(run(wider, form).advantages_N, run(batch, form).advantages_N, atol=1e-9, rtol=1e-9)


@every_form
@pytest.mark.parametrize("level", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("size", [1, 3, 6, 7])
def test_constant_rewards_get_exactly_zero(form: dict[str, Any], level: float, size: int) -> None:
    rewards = [[level, 0.9]] * size + [[0.0, 1.0], [1.0, 1.0]]
    assert advantages(rewards, [0] * size + [1, 1], form)[:size] == [0] * size


@pytest.mark.parametrize("form", [form for form in FORMS if form["estimator"] not in ("saw", "rvpo")], ids=str)
def test_a_constant_reward_changes_nothing(form: dict[str, Any]) -> None:
    """But for SAW, whose weights average 1 over all rewards, the constant one included, and for RVPO, in whose minimum
    it is an advantage of 0."""
    rewards = [[1.0, 0.0], [0.0, 0.2], [0.5, 0.4], [1.0, 1.0], [0.0, 0.5]]
    groups = [0, 0, 0, 1, 1]
    with_constant = advantages([[*row, 0.7] for row in rewards], groups, form)
    assert with_constant == pytest.approx(advantages(rewards, groups, form), abs=1e-6)


@every_form
def test_one_group_per_rollout_has_nothing_to_compare(form: dict[str, Any]) -> None:
    assert advantages([[1.0, 0.0], [0.0, 0.5], [0.3, 1.0]], [3, 1, 2], form) == [0, 0, 0]


@every_form
def test_missing_score_is_not_a_zero(form: dict[str, Any]) -> None:
    """Scores of the others stay compared among themselves; the unscored row moves nothing."""
    rewards = [[1.0, 1.0], [0.5, 0.8], [0.6, 0.9], [NAN, NAN]]
    with_missing = advantages(rewards, [0] * 4, form)
    assert with_missing[3] == 0
    assert with_missing[:3] == pytest.approx(advantages(rewards[:3], [0] * 3, form), abs=1e-6)


SOURCES = {
    "letters": [[1.0, NAN, 0.5], [0.0, NAN, 0.2], [1.0, NAN, 0.9], [0.0, NAN, 0.1], [0.0, NAN, 0.4], [1.0, NAN, 0.8]],
    "chat": [[NAN, 0.3, 0.0], [NAN, 0.9, 0.6], [NAN, 0.4, 0.3], [NAN, 0.5, 0.9], [NAN, 0.1, 0.0], [NAN, 0.2, 0.7]],
}
"""Rewards ``letters``, ``chat`` and ``both`` of two groups of three for each data source: two sources, each with a
reward of its own, which isn't applicable to the other."""
LETTERS, CHAT = slice(0, 6), slice(6, 12)


def of_sources(form: dict[str, Any], **options: Any) -> list[float]:
    outcome = {"outcome": "both", "outcome_threshold": 0.3} if form["estimator"] == "papo" else {}
    names, rewards = ["letters", "chat", "both"], SOURCES["letters"] + SOURCES["chat"]
    config = {"names": names, "batch_norm": "none", **form, **outcome, **options}
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    result = compute_advantages(torch.tensor(rewards, dtype=torch.float64), groups, config)
    assert result.diagnostics["advantage/unscored_share"] == 0
    return result.advantages_N.tolist()


BY_GROUP = ("advantage_combination", "corr_grpo", "dvao", "gd2po", "gdpo", "grpo", "papo", "rvpo")
"""Estimators in which groups don't depend on each other, but for the batch norm."""


@every_form
@pytest.mark.parametrize(("source", "column", "rows"), [("letters", 1, LETTERS), ("chat", 0, CHAT)])
def test_a_source_is_compared_as_if_it_had_only_its_own_rewards(
    form: dict[str, Any], source: str, column: int, rows: slice
) -> None:
    """Estimators that weigh rewards by all that the batch has of them: up to one factor, where each has one reward."""
    weighs = form["estimator"] not in BY_GROUP or form.get("form") == "gdpo"
    outcome = {"outcome": "b", "outcome_threshold": 0.3} if form["estimator"] == "papo" else {}
    own = [[score for k, score in enumerate(row) if k != column] for row in SOURCES[source]]
    options = {"batch_norm": "none", "weights": {"a": 1.0, "b": 0.0 if weighs else 1.0}}
    alone = advantages(own, [0, 0, 0, 1, 1, 1], {**form, **outcome}, **options)
    mixed = of_sources(form, weights={"letters": 1.0, "chat": 1.0, "both": 0.0 if weighs else 1.0})[rows]
    factor = max(map(abs, mixed)) / max(map(abs, alone)) if weighs else 1.0
    assert mixed == pytest.approx([factor * advantage for advantage in alone], abs=1e-6)
    assert max(map(abs, mixed)) > 0


@pytest.mark.parametrize("form", [form for form in FORMS if form.get("form") != "gdpo" and form["estimator"] != "papo"])
def test_a_reward_that_requires_one_of_another_source_teaches_nothing_there(form: dict[str, Any]) -> None:
    """It counts 0 in all of a group's rollouts, which is what they have in common (``saw`` weighs by its spread, and in
    the minimum of ``rvpo`` it is an advantage of 0)."""
    condition = [{"reward": "both", "requires": "letters", "threshold": 1.0}]
    conditioned = of_sources(form, conditions=condition)
    without = of_sources(form, weights={"letters": 1.0, "chat": 1.0, "both": 0.0})
    if form["estimator"] not in ("saw", "rvpo"):
        assert conditioned[CHAT] == pytest.approx(without[CHAT], abs=1e-6)
    assert conditioned[LETTERS] != pytest.approx(of_sources(form)[LETTERS], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(batches(rewards=(2, 3), group_sizes=(3, 5), missing=True))
def test_grpo_sums_as_if_a_missing_score_were_its_groups_mean(batch: Batch) -> None:
    scored_N = ~batch.rewards_NK.isnan().all(dim=1)
    rewards_NK, ids_N = batch.rewards_NK[scored_N], batch.group_ids_N[scored_N]
    for group in ids_N.unique():
        rows_NK = rewards_NK[ids_N == group]
        rewards_NK[ids_N == group] = torch.where(rows_NK.isnan(), rows_NK.nanmean(dim=0), rows_NK).nan_to_num(nan=0.0)
    filled = Batch(rewards_NK, ids_N, batch.lengths_N[scored_N], batch.names, batch.weights)
    expected_N = run(filled, {"estimator": "grpo"}).advantages_N
    torch.testing.assert_close(
        run(batch, {"estimator": "grpo"}).advantages_N[scored_N], expected_N, atol=1e-6, rtol=1e-6
    )


@every_form
def test_empty_responses_get_zero(form: dict[str, Any]) -> None:
    rewards_NK = torch.tensor([[1.0, 0.2], [0.0, 0.5], [0.3, 1.0]])
    config = {"names": ["a", "b"], **form}
    ids_N = torch.zeros(3, dtype=torch.int64)
    one = compute_advantages(rewards_NK, ids_N, config, lengths_N=torch.tensor([0, 4, 4]))
    assert one.advantages_N[0] == 0
    for batch_norm in ("sequence", "token", "none"):
        options = {**config, "batch_norm": batch_norm}
        none = compute_advantages(rewards_NK, ids_N, options, lengths_N=torch.zeros(3, dtype=torch.int64))
        assert none.advantages_N.tolist() == [0, 0, 0]


@every_form
@settings(max_examples=15, deadline=None)
@given(batch=batches(missing=True), data=st.data())
def test_masked_rollouts_leave_and_the_others_get_what_they_get_without_them(
    form: dict[str, Any], batch: Batch, data: st.DataObject
) -> None:
    preset, rows = data.draw(st.sampled_from(["paper", "trl", "nemo"])), len(batch.group_ids_N)
    truncated_N = torch.tensor(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    kept_N, config = ~truncated_N, {"names": batch.names, "weights": batch.weights, **form, "preset": preset}
    rewards_NK = batch.rewards_NK.clone()
    rewards_NK[truncated_N] = 0.5  # whatever they scored
    masked = compute_advantages(
        rewards_NK,
        batch.group_ids_N,
        {**config, "truncated": "mask"},
        lengths_N=batch.lengths_N,
        truncated_N=truncated_N,
    )
    without = compute_advantages(
        batch.rewards_NK[kept_N], batch.group_ids_N[kept_N], config, lengths_N=batch.lengths_N[kept_N]
    )
    assert torch.equal(masked.advantages_N[kept_N], without.advantages_N)
    assert torch.equal(masked.keep_N[kept_N], without.keep_N)
    assert masked.diagnostics == without.diagnostics
    assert not masked.keep_N[truncated_N].any()
    assert masked.advantages_N[truncated_N].eq(0).all()
    assert (masked.loss_weights_N is None) == (without.loss_weights_N is None)


@every_form
def test_a_group_that_masking_leaves_one_rollout_of_has_nothing_to_compare(form: dict[str, Any]) -> None:
    rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.3, 1.0], [0.0, 0.2], [1.0, 0.9]])
    config = {"names": ["a", "b"], **form, "truncated": "mask"}
    given = rewards_NK, torch.tensor([0, 0, 0, 1, 1]), config
    result = compute_advantages(*given, truncated_N=torch.tensor([True, False, True, False, False]))
    assert result.advantages_N[:3].tolist() == [0, 0, 0]
    assert result.keep_N.tolist()[:3] == [False, True, False]
    everything = compute_advantages(*given, truncated_N=torch.ones(5, dtype=torch.bool))
    assert (everything.advantages_N.tolist(), everything.keep_N.any()) == ([0] * 5, False)
    with pytest.raises(ValueError, match="truncated_N: given none, but truncated 'mask' leaves rows out"):
        compute_advantages(*given)


def test_masked_groups_take_their_history_along() -> None:
    rewards_NK = torch.tensor([[1.0], [0.0], [0.3], [0.0], [1.0], [0.2]], dtype=torch.float64)
    groups_N, truncated_N = torch.tensor([5, 5, 2, 2, 9, 9]), torch.tensor([False, True, True, True, False, False])
    config = {"estimator": "gdpo", "names": ["a"], "shrinkage": {"strength": 4}}
    known_GC = torch.tensor([[3.0], [5.0], [7.0]], dtype=torch.float64)  # of the groups 2, 5, 9
    history = GroupHistory(known_GC, known_GC / 10, known_GC / 20)
    masked_N = compute_advantages(
        rewards_NK, groups_N, {**config, "truncated": "mask"}, history=history, truncated_N=truncated_N
    ).advantages_N
    of_others = GroupHistory(*(part[1:] for part in (known_GC, known_GC / 10, known_GC / 20)))
    given = rewards_NK[~truncated_N], groups_N[~truncated_N], config
    alone_N = compute_advantages(*given, history=of_others).advantages_N
    assert torch.equal(masked_N[~truncated_N], alone_N)
    assert masked_N[0] != 0  # one is left of the group, and is compared with what its prompt earned before


@every_form
def test_no_rollouts_no_advantages(form: dict[str, Any]) -> None:
    ids_N = torch.empty(0, dtype=torch.int64)
    result = compute_advantages(torch.empty(0, 2), ids_N, {"names": ["a", "b"], **form})
    assert result.advantages_N.shape == result.keep_N.shape == (0,)


@every_form
@settings(max_examples=15, deadline=None)
@given(batch=batches(group_sizes=(2, 6)), factor=st.floats(0.1, 10))
def test_common_factor_on_the_weights(form: dict[str, Any], batch: Batch, factor: float) -> None:
    """No estimator that divides by a spread of its sum notices; the others follow in proportion. (Rewards that cancel
    leave epsilons over, which a batch norm makes large.)"""
    assume(float(run(batch, form, batch_norm="none").advantages_N.abs().max()) > 1e-3)
    heavier = Batch(
        batch.rewards_NK,
        batch.group_ids_N,
        batch.lengths_N,
        batch.names,
        {name: factor * weight for name, weight in batch.weights.items()},
    )
    linear = form["estimator"] in ("advantage_combination", "papo", "corr_grpo") or form.get("std") is False
    expected_N = run(batch, form).advantages_N * (factor if linear else 1)
    torch.testing.assert_close(run(heavier, form).advantages_N, expected_N, atol=1e-5, rtol=1e-5)


@every_form
@settings(max_examples=15, deadline=None)
@given(batch=batches(group_sizes=(2, 6), missing=True), shift=st.floats(-3, 3), factor=st.floats(0.5, 4))
def test_declared_ranges_undo_units(form: dict[str, Any], batch: Batch, shift: float, factor: float) -> None:
    """A reward in other units, with its bounds, is the same reward, but to the estimators that keep its units."""
    units = Batch(factor * batch.rewards_NK + shift, batch.group_ids_N, batch.lengths_N, batch.names, batch.weights)
    ranges = dict.fromkeys(batch.names, (shift, factor + shift))
    threshold = {"outcome_threshold": factor + shift - 1e-9} if form["estimator"] == "papo" else {}
    rescaled_N = run(units, form, ranges=ranges, **threshold).advantages_N
    keeps_units = form.get("std") is False or form == {"estimator": "corr_grpo"}
    expected_N = run(batch, form).advantages_N * (factor if keeps_units else 1)
    torch.testing.assert_close(rescaled_N, expected_N, atol=1e-5, rtol=1e-5)


@every_form
@settings(max_examples=10, deadline=None)
@given(batch=batches(rewards=(2, 3), group_sizes=(2, 6), missing=True))
def test_bounds_map_rewards_for_those_estimators_alone_that_compare_scales(form: dict[str, Any], batch: Batch) -> None:
    """The first reward in [0, 1] with bounds of [0, 4] is a quarter of itself to them, and itself to all others."""
    bounded_N = run(batch, form, ranges={batch.names[0]: (0, 4)}).advantages_N
    expected = batch
    if ESTIMATOR_CONFIGS[form["estimator"]].scale_dependent:
        rewards_NK = batch.rewards_NK.clone()
        rewards_NK[:, 0] /= 4
        expected = Batch(rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, batch.weights)
    torch.testing.assert_close(bounded_N, run(expected, form).advantages_N, atol=1e-9, rtol=1e-9)


@every_form
@settings(max_examples=20, deadline=None)
@given(batch=batches(group_sizes=(2, 6), missing=True, levels=5))
def test_float32_agrees_with_float64(form: dict[str, Any], batch: Batch) -> None:
    single = Batch(batch.rewards_NK.float(), batch.group_ids_N, batch.lengths_N, batch.names, batch.weights)
    result = run(single, form)
    assert result.advantages_N.dtype == torch.float32
    torch.testing.assert_close(result.advantages_N.double(), run(batch, form).advantages_N, atol=1e-5, rtol=1e-5)


@every_form
@settings(max_examples=10, deadline=None)
@given(batch=batches(missing=True), bound=st.floats(0.1, 1))
def test_clipping_bounds_and_is_reported(form: dict[str, Any], batch: Batch, bound: float) -> None:
    free_N, clipped = run(batch, form).advantages_N, run(batch, form, clip=bound)
    assert torch.equal(clipped.advantages_N, free_N.clamp(-bound, bound))
    assert clipped.diagnostics["advantage/clipped_share"] == pytest.approx(
        float((free_N.abs() > bound).double().mean())
    )


@settings(max_examples=20, deadline=None)
@given(batch=batches(missing=True))
def test_together_is_the_same_as_one_by_one(batch: Batch) -> None:
    config = {"names": batch.names, "weights": batch.weights, "ranges": {batch.names[0]: (-1, 3)}}
    together = compute_each(batch.rewards_NK, batch.group_ids_N, config, ESTIMATORS, lengths_N=batch.lengths_N)
    for name, result in together.items():
        alone = run(batch, {"estimator": name}, ranges=config["ranges"])
        assert torch.equal(result.advantages_N, alone.advantages_N)
        assert result.diagnostics == alone.diagnostics


@every_form
@settings(max_examples=20, deadline=None)
@given(batch=batches(rewards=(2, 3), group_sizes=(2, 6), missing=True), data=st.data())
def test_batch_norms(form: dict[str, Any], batch: Batch, data: st.DataObject) -> None:
    """Sequence: mean 0 and sample std 1 over rollouts; token: the same with each rollout counted by its tokens."""
    unit = data.draw(st.sampled_from(["sequence", "token"]))
    result = run(batch, form, batch_norm=unit, exclude_zero_variance=True)
    counts_N = batch.lengths_N.double() if unit == "token" else torch.ones(len(batch.lengths_N)).double()
    counts_N = counts_N * _with_signal(batch) * result.keep_N
    # Where rewards all but cancel, the normalization's epsilon is as large as what it is added to.
    assume(float(run(batch, form, batch_norm="none").advantages_N.abs().max()) > 1e-3)
    assume(bool(result.advantages_N.any()))
    assert float((counts_N * result.advantages_N).sum()) == pytest.approx(0, abs=1e-5)
    assert float((counts_N * result.advantages_N.square()).sum()) == pytest.approx(float(counts_N.sum()) - 1, rel=1e-4)


def _with_signal(batch: Batch) -> torch.Tensor:
    signal_N = torch.zeros(len(batch.group_ids_N)).double()
    for group in batch.group_ids_N.unique():
        rows_N = batch.group_ids_N == group
        columns = batch.rewards_NK[rows_N].T
        if any(len(column[~column.isnan()].unique()) > 1 for column in columns):
            signal_N[rows_N] = 1
    return signal_N
