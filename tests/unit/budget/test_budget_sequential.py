"""Sampling in rounds: who gets more, when it ends, what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mrpo.budget.allocate import allocate
from mrpo.budget.ids import IdArray
from mrpo.budget.offline import DapoFilter, stats_from_rates
from mrpo.budget.sequential import Observed, ReinforceAda
from mrpo.budget.stats import IntArray
from mrpo.config.budget import RoundsConfig
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

PROMPTS = np.array([30, 10, 20], dtype=np.uint64)


def observed(rewards: Mapping[int, Sequence[float]]) -> Observed:
    """Rollouts of some prompts, in shuffled order; the key says whose and which."""
    rows = [(f"{prompt}/{i}", prompt, r) for prompt, values in rewards.items() for i, r in enumerate(values)]
    order = np.random.default_rng(0).permutation(len(rows))
    keys, prompts, values = zip(*(rows[i] for i in order), strict=True) if rows else ((), (), ())
    return Observed(np.array(keys, dtype=object), np.array(prompts, dtype=np.uint64), np.array(values, dtype=float))


NOTHING = observed({})


def ada(prompts: npt.ArrayLike, round_size: npt.ArrayLike = 8, **rounds: Any) -> ReinforceAda:
    return ReinforceAda(prompts, round_size, RoundsConfig(**rounds))


def kept(keys: np.ndarray) -> list[str]:
    return sorted(keys.tolist())


# Reinforce-Ada


def test_everyone_starts_with_a_round() -> None:
    assert ada(PROMPTS, 8).next_round(NOTHING).tolist() == [8, 8, 8]


def test_a_balanced_prompt_is_done_and_others_go_on() -> None:
    sampler = ada(PROMPTS, 4, keep=4)
    seen = observed({10: [1, 0, 0, 1], 20: [1, 1, 1, 0], 30: [0, 0, 0, 0]})
    assert sampler.next_round(seen).tolist() == [4, 0, 4]


def test_positive_stops_at_the_first_success() -> None:
    sampler = ada(PROMPTS, 4, stop="positive")
    seen = observed({10: [0, 0, 0, 1], 20: [1, 1, 1, 1], 30: [0, 0, 0, 0]})
    assert sampler.next_round(seen).tolist() == [4, 0, 0]


def test_a_rollout_is_above_only_beyond_the_threshold() -> None:
    sampler = ada(PROMPTS, 4, keep=2, threshold=0.5)
    seen = observed({10: [0.5, 0.4, 0.1, 0], 20: [0.6, 0.5, 0, 0], 30: [1, 1, 1, 1]})
    assert sampler.next_round(seen).tolist() == [4, 4, 0]
    assert {"20/0"} < set(kept(sampler.select(seen)))


def test_rounds_are_limited_also_by_failed_rollouts() -> None:
    sampler = ada(PROMPTS, 2, max_rounds=2)
    seen = observed({10: [0] * 4, 20: [np.nan] * 4, 30: [0, 0, 0]})
    assert sampler.next_round(seen).tolist() == [1, 0, 0]


def test_half_and_half_is_kept_as_far_as_there_is() -> None:
    seen = observed({10: [1] * 5 + [0] * 3, 20: [0] * 7 + [1], 30: [0, 0, np.nan]})
    counts: dict[tuple[str, float], int] = {}
    reward = dict(zip(seen.rollout_N.tolist(), seen.reward_N.tolist(), strict=True))
    for key in ada(PROMPTS, keep=4).select(seen):
        side = (key.split("/")[0], reward[key])
        counts[side] = counts.get(side, 0) + 1
    assert counts == {("10", 1.0): 2, ("10", 0.0): 2, ("20", 1.0): 1, ("20", 0.0): 3, ("30", 0.0): 2}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), keep=st.sampled_from([2, 4, 6]), stop=st.sampled_from(["balanced", "positive"]))
def test_sampling_ends_within_its_rounds_and_keeps_what_it_says(seed: int, keep: int, stop: str) -> None:
    rng = np.random.default_rng(seed)
    ids, rate = rng.permutation(50)[:6].astype(np.uint64), rng.random(6) ** 2
    size = rng.integers(1, 9, 6)
    sampler = ada(ids, size, max_rounds=4, keep=keep, stop=stop)
    made = run(sampler, ids, rate, rng)
    counts = {int(i): int((made.prompt_N == i).sum()) for i in ids}
    assert all(counts[int(i)] <= 4 * s for i, s in zip(ids, size, strict=True))
    chosen = sampler.select(made)
    assert len(set(chosen.tolist())) == len(chosen)
    for i in ids:
        mine = made.reward_N[(made.prompt_N == i) & np.isin(made.rollout_N, chosen)]
        assert len(mine) == min(keep, counts[int(i)])
        everything = made.reward_N[made.prompt_N == i]
        if stop == "balanced" and min((everything > 0).sum(), (everything <= 0).sum()) >= keep // 2:
            assert (mine > 0).sum() == keep // 2


def run(sampler: ReinforceAda, ids: IdArray | IntArray, rate: np.ndarray, rng: np.random.Generator) -> Observed:
    """Generates until the sampler has enough."""
    made = NOTHING
    for _ in range(100):
        n = sampler.next_round(made)
        if not n.any():
            return made
        prompt = np.concatenate([made.prompt_N, ids.repeat(n)])
        reward = np.concatenate([made.reward_N, (rng.random(n.sum()) < rate.repeat(n)).astype(float)])
        order = rng.permutation(len(prompt))
        key = np.concatenate([made.rollout_N, np.arange(len(made.rollout_N), len(prompt))])
        made = Observed(key[order], prompt[order], reward[order])
    raise AssertionError("it never ends")


def test_rounds_compose_with_an_allocation() -> None:
    ids, rate = np.arange(8), np.linspace(0.02, 0.98, 8)
    size = allocate("neyman", stats_from_rates(rate), 64, 2, 16)
    made = run(ada(ids, size, keep=4), ids, rate, np.random.default_rng(0))
    first = ada(ids, size).next_round(NOTHING)
    assert first.tolist() == size.tolist()
    assert first.sum() == 64
    assert len(made.rollout_N) > 64


# DAPO


def test_dapo_asks_for_a_batch_first_and_refills_from_the_next_candidates() -> None:
    sampler = DapoFilter([5, 3, 9, 1, 7], wanted=2, group_size=4)
    assert sampler.next_round(NOTHING).tolist() == [4, 4, 0, 0, 0]
    seen = observed({5: [1, 1, 1, 1], 3: [0, 1, 0, 0]})
    assert sampler.next_round(seen).tolist() == [0, 0, 4, 4, 0]
    seen = observed({5: [1, 1, 1, 1], 3: [0, 1, 0, 0], 9: [0, 0, 0, 0], 1: [0, 1, 1, 0]})
    assert sampler.next_round(seen).tolist() == [0] * 5
    assert kept(sampler.select(seen)) == [f"{p}/{i}" for p in (1, 3) for i in range(4)]


def test_dapo_truncates_to_the_batch_in_candidate_order() -> None:
    sampler = DapoFilter([5, 3, 9], wanted=2, group_size=2)
    seen = observed({9: [0, 1], 3: [0, 1], 5: [1, 0]})
    assert kept(sampler.select(seen)) == ["3/0", "3/1", "5/0", "5/1"]


def test_dapo_gives_up_after_its_rounds_and_says_what_it_has() -> None:
    sampler = DapoFilter([5, 3, 9, 1], wanted=1, group_size=2, max_rounds=2)
    seen = observed({5: [1, 1], 3: [0, 0]})
    assert sampler.next_round(seen).tolist() == [0] * 4
    assert sampler.kept(seen).sum() == 0
    assert kept(sampler.select(seen)) == []


def test_dapo_ignores_failed_rollouts_and_keeps_lone_ones() -> None:
    sampler = DapoFilter([5, 3, 9], wanted=3, group_size=[2, 3, 1])
    seen = observed({5: [1, np.nan], 3: [0, 1, np.nan], 9: [1]})
    assert sampler.kept(seen).tolist() == [False, True, True]
    assert kept(sampler.select(seen)) == ["3/0", "3/1", "9/0"]


def test_dapo_groups_may_have_allocated_sizes() -> None:
    size = allocate("neyman", stats_from_rates([0.5, 0.1, 0.9, 0.5]), 32, 2, 16)
    assert DapoFilter(np.arange(4), 4, size).next_round(NOTHING).tolist() == size.tolist()


# Errors


def test_strangers_and_doubles_are_refused() -> None:
    with pytest.raises(ConfigError, match="isn't in this batch"):
        ada(PROMPTS).next_round(observed({11: [1.0]}))
    with pytest.raises(ConfigError, match="occurs twice"):
        DapoFilter([1, 2, 1], 1, 4)
    with pytest.raises(ConfigError, match="round size 0"):
        ada(PROMPTS, [4, 0, 4])
    with pytest.raises(ValidationError, match="multiple of 2"):
        RoundsConfig(keep=3)
    with pytest.raises(ValidationError, match="'balanced' or 'positive'"):
        RoundsConfig.model_validate({"stop": "never"})
    with pytest.raises(ConfigError, match="2 rollouts, 1 prompts"):
        Observed(np.arange(2), PROMPTS[:1], np.zeros(2))


def test_no_prompts_no_rounds() -> None:
    assert ada([]).next_round(NOTHING).tolist() == []
    assert ada([]).select(NOTHING).tolist() == []
