"""Prompt history: what it remembers, for whom, and what survives."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

from mrpo.budget.allocate import allocate
from mrpo.budget.history import PromptHistory
from mrpo.budget.ids import as_ids, content_ids, prompt_id, prompt_uid, uid_content
from mrpo.budget.offline import Coverage, coverage, stats_from_counts
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

MESSAGES = [{"role": "user", "content": "2+2?"}]


# Ids


def test_an_id_depends_on_content_alone() -> None:
    base = prompt_id(MESSAGES, "4", "math")
    assert base == prompt_id([{"content": "2+2?", "role": "user"}], "4", "math")
    assert base == prompt_id(np.array(MESSAGES, dtype=object), np.str_("4"), "math")
    assert 0 <= base < 2**64


def test_an_id_is_the_same_in_every_process() -> None:
    assert prompt_id(MESSAGES, "4", "math") == 17691606782171663614


@pytest.mark.parametrize(
    "other",
    [
        ([{"role": "user", "content": "2+2 ?"}], "4", "math"),
        ([{"role": "system", "content": "2+2?"}], "4", "math"),
        (MESSAGES, "5", "math"),
        (MESSAGES, 4, "math"),
        (MESSAGES, "4", "code"),
        (MESSAGES, "4", None),
        ("2+2?", "4", "math"),
    ],
)
def test_any_change_of_content_is_another_id(other: tuple[Any, Any, Any]) -> None:
    assert prompt_id(*other) != prompt_id(MESSAGES, "4", "math")


def test_a_list_of_large_ids_loses_no_digit() -> None:
    large = [prompt_id(str(i)) for i in range(8)]
    assert max(large) > 2**63 > min(large)
    assert as_ids(large).tolist() == large
    assert as_ids(np.array(large, dtype=object)).tolist() == large
    assert as_ids(as_ids(large).view(np.int64)).tolist() == large


def test_content_without_a_stable_form_has_no_id() -> None:
    with pytest.raises(TypeError, match="object"):
        prompt_id([object()])


def test_a_uid_leads_back_to_its_content() -> None:
    uids = [prompt_uid(MESSAGES, "4", "math", draw) for draw in (3, 12)]
    assert uids[0] != uids[1]
    assert content_ids(uids) == [prompt_id(MESSAGES, "4", "math")] * 2
    assert uid_content(uids[0]) == uid_content(uids[1]) == uids[0].removesuffix("-3")
    assert uid_content("made-by-hand-0") == "made-by-hand"
    assert uid_content("7") == "7"


# Evidence


def test_cumulative_evidence_is_that_of_all_rollouts_at_once() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, 300).astype(np.uint64)
    rewards = rng.normal([1000.0, 0.2, -1.0], [0.1, 1.0, 3.0], (300, 3))
    rewards[rng.random((300, 3)) < 0.2] = np.nan
    history = PromptHistory(["a", "b", "c"])
    for part in np.array_split(np.arange(300), 7):
        history.observe(ids[part], rewards[part])
    evidence = history.evidence([3, 99, 0])
    assert evidence.names == ("a", "b", "c", "total")
    columns = np.column_stack([rewards, rewards.sum(axis=1)])
    for row, prompt in enumerate([3, 99, 0]):
        seen = columns[ids == prompt]
        assert evidence.trials_GC[row].tolist() == (~np.isnan(seen)).sum(axis=0).tolist()
        if prompt == 99:
            assert np.isnan(evidence.mean_GC[row]).all()
            assert np.isnan(evidence.variance_GC[row]).all()
        else:
            assert evidence.mean_GC[row] == pytest.approx(np.nanmean(seen, axis=0), rel=1e-6)
            assert evidence.variance_GC[row] == pytest.approx(np.nanvar(seen, axis=0, ddof=1), rel=1e-3)


def test_bernoulli_stats_are_the_unbiased_ones_of_the_counts() -> None:
    k, n = [0, 2, 8, 14, 16, 1], [16, 16, 16, 16, 16, 1]
    ids = np.repeat(np.arange(6), n)
    rewards = np.concatenate([np.arange(size) < hits for hits, size in zip(k, n, strict=True)]).astype(float)
    history = PromptHistory(["right"])
    history.observe(ids, rewards[:, None])
    stats, expected = history.stats(np.arange(6)), stats_from_counts(k, n)
    assert stats.trials_G.tolist() == n
    assert stats.mean_G == pytest.approx(expected.mean_G, rel=1e-6)
    assert stats.variance_G == pytest.approx(expected.variance_G, rel=1e-6, nan_ok=True)
    assert np.isnan(stats.variance_G[5])


def test_the_decayed_predictor_weighs_by_age_in_steps() -> None:
    history = PromptHistory(["right"], decay=0.5)
    history.observe([7, 7, 7, 7], np.array([[1.0], [1], [1], [0]]), step=10)
    history.observe([7, 7], np.array([[0.0], [0]]), step=12)
    history.observe([8], np.array([[1.0]]), step=13)
    weights = np.array([0.125] * 4 + [0.5] * 2)
    values = np.array([1, 1, 1, 0, 0, 0.0])
    evidence = history.evidence([7], "decayed")
    mean = (weights * values).sum() / weights.sum()
    unbiased = (weights * (values - mean) ** 2).sum() / (weights.sum() - (weights**2).sum() / weights.sum())
    assert evidence.trials_GC[0, 0] == pytest.approx(weights.sum())
    assert evidence.mean_GC[0, 0] == pytest.approx(mean)
    assert evidence.variance_GC[0, 0] == pytest.approx(unbiased)
    assert evidence.spread_G[0] == pytest.approx(unbiased)
    assert history.evidence([7]).mean_GC[0, 0] == pytest.approx(0.5)


def test_the_decayed_spread_is_unbiased_for_unequal_weights() -> None:
    rng = np.random.default_rng(0)
    history = PromptHistory(["right"], decay=0.7)
    prompts = np.arange(40_000)
    for _ in range(4):
        history.observe(prompts.repeat(3), (rng.random((120_000, 1)) < 0.2).astype(float))
    spread = history.evidence(prompts, "decayed").spread_G
    assert spread.mean() == pytest.approx(0.16, abs=4 * spread.std() / 200)


def test_without_decay_the_decayed_predictor_is_the_cumulative_one() -> None:
    rng = np.random.default_rng(0)
    history = PromptHistory(["a", "b"], decay=1.0)
    for _ in range(5):
        history.observe(rng.integers(0, 4, 30), rng.random((30, 2)))
    one, other = history.evidence(np.arange(4)), history.evidence(np.arange(4), "decayed")
    for field in ("trials_GC", "mean_GC", "variance_GC", "positive_G", "spread_G"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-5)


def test_the_beta_predictor_is_the_posterior() -> None:
    history = PromptHistory(["right"], decay=1.0)
    history.observe([1, 1, 1, 2], np.array([[1.0], [0], [0], [0]]))
    stats = history.stats([1, 2, 3], predictor="beta", prior=(2.0, 1.0))
    assert stats.mean_G == pytest.approx([3 / 6, 2 / 4, np.nan], nan_ok=True)
    assert stats.variance_G == pytest.approx([3 * 3 / (6 * 7), 2 * 2 / (4 * 5), np.nan], nan_ok=True)


def test_an_all_wrong_prompt_keeps_a_share_under_the_beta_predictor_only() -> None:
    history = PromptHistory(["right"])
    history.observe(np.repeat([1, 2], 8), np.array([0.0] * 8 + [1.0, 0] * 4)[:, None])
    share = {
        name: allocate("neyman", history.stats([1, 2], predictor=name), 40, 0, 40)[0] for name in ("cumulative", "beta")
    }
    assert share["cumulative"] == 0
    assert share["beta"] > 5


def test_missing_rewards_leave_the_others_evidence_alone() -> None:
    history = PromptHistory(["a", "b"])
    history.observe([5, 5], np.array([[1.0, np.nan], [0.0, 2.0]]))
    evidence = history.evidence([5])
    assert evidence.trials_GC[0].tolist() == [2, 1, 1]
    history.observe([5], np.array([[np.nan, np.nan]]), total_N=[0.75])
    assert history.evidence([5]).trials_GC[0].tolist() == [2, 1, 2]


def test_response_lengths_are_predicted_per_prompt() -> None:
    history = PromptHistory(["a"])
    history.observe([1, 1, 2], np.zeros((3, 1)), length_N=[100, 300, 50])
    history.observe([1, 3], np.zeros((2, 1)), length_N=[100, np.nan])
    assert history.stats([1, 2, 3, 4]).response_length_G == pytest.approx([150, 50, np.nan, np.nan], nan_ok=True)


# What survives


def filled() -> PromptHistory:
    rng = np.random.default_rng(3)
    history = PromptHistory(["a", "b"])
    for step in range(1, 6):
        ids = rng.integers(0, 2**63, 4).astype(np.uint64).repeat(5)
        history.observe(
            np.concatenate([ids, np.array([7, 8], dtype=np.uint64)]),
            rng.random((22, 2)),
            length_N=rng.integers(1, 99, 22),
            step=step * 3,
        )
    return history


def test_a_loaded_history_goes_on_as_the_saved_one() -> None:
    saved, loaded = filled(), PromptHistory(["a", "b"])
    state = pickle.loads(pickle.dumps(saved.state_dict()))
    loaded.load_state_dict(state)
    for history in (saved, loaded):
        history.observe([7, 9, 9], np.array([[1.0, 0], [0, 0], [1, 1]]), step=20)
    one, other = saved.state_dict(), loaded.state_dict()
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert np.array_equal(value, other[key]), key
    ids = saved.state_dict()["ids"]
    assert np.array_equal(saved.stats(ids).variance_G, loaded.stats(ids).variance_G, equal_nan=True)


RECORDED = {
    "ids": ("uint64", (5,), "172b834fe18d6076"),
    "all_time": ("float32", (5, 3, 3), "aaf4f76b4c683d14"),
    "recent": ("float32", (5, 3, 4), "291cb386a5bce3db"),
    "positive": ("float32", (5, 2), "b740930deeca7465"),
    "seen_at": ("int32", (5,), "1db3bf2e98c301ca"),
    "length": ("float32", (5,), "1418fb3b570ff890"),
}
"""Type, shape and SHA-256 (its beginning) of each array of the state, as checkpoints of format 1 hold it."""


def test_the_state_is_byte_for_byte_that_of_format_1() -> None:
    """Prompts appear in any order and come back; rewards are missing; decay is a power of two, hence exact."""
    rng = np.random.default_rng(5)
    history = PromptHistory(["right", "short"], decay=0.5)
    a, b, c, d, e = 7, 2**63 + 11, 4, 2**64 - 3, 1234567890123456789
    for step, ids in [(1, [b, a, a, b]), (2, [c, a, c]), (5, [d, b, c, c, a]), (6, [e, e, e, a])]:
        rewards = rng.integers(-3, 9, (len(ids), 2)) / 4
        rewards[rng.random(rewards.shape) < 0.2] = np.nan
        history.observe(ids, rewards, length_N=rng.integers(1, 300, len(ids)), step=step)
    state = history.state_dict()
    assert list(state) == ["version", "rewards", "step", *RECORDED]
    assert (state["version"], state["rewards"], state["step"]) == (1, ["right", "short"], 6)
    assert state["ids"].tolist() == [a, b, c, d, e]
    found = {
        k: (str(v.dtype), v.shape, hashlib.sha256(v.tobytes()).hexdigest()[:16])
        for k, v in state.items()
        if k in RECORDED
    }
    assert found == RECORDED


def test_the_state_is_arrays_and_plain_values_and_a_copy() -> None:
    history = filled()
    state = history.state_dict()
    plain = {key: value for key, value in state.items() if not isinstance(value, np.ndarray)}
    assert plain == {"version": 1, "rewards": ["a", "b"], "step": 15}
    assert all(value.dtype.kind in "fiu" for value in state.values() if isinstance(value, np.ndarray))
    before = state["recent"].copy()
    history.observe([7], np.array([[5.0, 5.0]]))
    assert np.array_equal(state["recent"], before)


def test_a_reordered_and_extended_data_set_keeps_its_history() -> None:
    history = filled()
    before = history.stats([7, 8])
    history.observe([10, 8, 11], np.ones((3, 2)), step=15)
    after = history.stats([11, 7])
    assert after.variance_G[1] == before.variance_G[0]
    assert after.trials_G[0] == 1


def test_new_and_changed_prompts_are_noticed() -> None:
    history = PromptHistory(["a"])
    texts = ["one", "two", "three"]
    assert history.observe([prompt_id(t) for t in texts], np.zeros((3, 1))) == 3
    assert history.observe([prompt_id("one"), prompt_id("one"), prompt_id("four")], np.zeros((3, 1))) == 1
    changed = [prompt_id(t) for t in ("two", "one!", "three", "three", "four")]
    assert coverage(history, changed) == Coverage(known=3, new=1, gone=1)


def test_a_history_of_other_rewards_is_refused() -> None:
    state = filled().state_dict()
    with pytest.raises(ConfigError, match=r"saved for rewards \['a', 'b'\], allowed \['b', 'a'\]"):
        PromptHistory(["b", "a"]).load_state_dict(state)
    with pytest.raises(ConfigError, match="format 2"):
        PromptHistory(["a", "b"]).load_state_dict({**state, "version": 2})
    with pytest.raises(ConfigError, match="damaged"):
        PromptHistory(["a", "b"]).load_state_dict({**state, "recent": state["recent"][1:]})


@pytest.mark.parametrize(
    ("ids", "rewards", "extra", "message"),
    [
        ([1, 2], np.zeros((2, 3)), {}, r"shape \(2, 3\), expected \(2, 2\)"),
        ([1.5], np.zeros((1, 2)), {}, "whole numbers"),
        ([1], np.array([[np.inf, 0]]), {}, "infinite"),
        ([1], np.zeros((1, 2)), {"step": 2}, "step 2 is before step 5"),
        ([1], np.zeros((1, 2)), {"total_N": [1, 2]}, "totals of shape"),
        ([1], np.zeros((1, 2)), {"length_N": [1, 2]}, "lengths of shape"),
    ],
)
def test_wrong_rows_are_refused(ids: Any, rewards: Any, extra: dict[str, Any], message: str) -> None:
    history = PromptHistory(["a", "b"])
    history.observe([0], np.zeros((1, 2)), step=5)
    with pytest.raises(ConfigError, match=message):
        history.observe(ids, rewards, **extra)
    assert len(history) == 1


def test_wrong_set_up_is_refused() -> None:
    for rewards in ([], ["a", "a"], ["a", "total"]):
        with pytest.raises(ConfigError, match="distinct names"):
            PromptHistory(rewards)
    with pytest.raises(ConfigError, match="decay"):
        PromptHistory(["a"], decay=0)
    with pytest.raises(ConfigError, match="Did you mean 'decayed'"):
        PromptHistory(["a"]).evidence([1], "decaid")  # type: ignore[arg-type]
