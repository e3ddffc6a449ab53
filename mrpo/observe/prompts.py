"""Rollouts and rewards of single prompts, from the rollouts on disk: did the budget follow the variance?

All draws of a prompt count together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import fmean, variance
from typing import Any, NamedTuple

from mrpo.budget.uids import uid_content
from mrpo.config.schedule import Schedule, at, parse
from mrpo.errors import ConfigError
from mrpo.record.jsonl import Record
from mrpo.record.metrics import number
from mrpo.record.run_folder import RunFolder

_MAX_ROLLOUTS = 20_000
_MIN_STEPS, _MIN_PROMPTS = 4, 3


class Prompt(NamedTuple):
    """One prompt over some steps: rollouts per draw, and mean and variance of their weighted reward."""

    rollouts: float
    mean: float
    variance: float | None
    """None with a single score, which has none."""


class RecentPrompts(NamedTuple):
    prompts: list[Prompt]
    first_step: int
    last_step: int


def recent_prompts(folder: RunFolder, weights: Mapping[str, float | Schedule]) -> RecentPrompts | None:
    """Every prompt of the last quarter of the steps (four at least), or of as many of them as hold 20 000 rollouts.

    Args:
        folder: the run.
        weights: of each reward in the sum; 1 for one that isn't named.
    Returns:
        None without rollouts.
    """
    steps = folder.rollout_steps()
    draws: dict[str, set[str]] = {}
    scores: dict[str, list[float | None]] = {}
    read, last_step = 0, None
    for step in reversed(steps[-max(_MIN_STEPS, len(steps) // 4) :]):
        rows = folder.read_rollouts(step)
        if not rows or (read and read + len(rows) > _MAX_ROLLOUTS):
            break
        of_step = {name: at(weight, step) for name, weight in weights.items()}
        for row in rows:
            prompt = uid_content(str(row["uid"]))
            draws.setdefault(prompt, set()).add(f"{step}/{row['uid']}")
            scores.setdefault(prompt, []).append(_weighted_reward(row, of_step))
        read, first_step, last_step = read + len(rows), step, last_step or step
    if last_step is None:
        return None
    prompts = []
    for prompt, given in scores.items():
        known = [score for score in given if score is not None]
        if known:
            spread = variance(known) if len(known) > 1 else None
            prompts.append(Prompt(len(given) / len(draws[prompt]), fmean(known), spread))
    return RecentPrompts(prompts, first_step, last_step)


def _weighted_reward(row: Record, weights: Mapping[str, float]) -> float | None:
    """None if no reward of a positive weight scored the rollout."""
    rewards: Any = row.get("rewards")
    scores = {name: number(rewards, name) for name in rewards if weights.get(name, 1.0) > 0}
    known = {name: score for name, score in scores.items() if score is not None}
    return sum(weights.get(name, 1.0) * score for name, score in known.items()) if known else None


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's; None where it isn't defined: for fewer than 3 pairs, or where one side is constant.

    >>> rank_correlation([(1, 10), (2, 30), (3, 20)])
    0.5
    """
    if len(pairs) < _MIN_PROMPTS or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None
    from scipy.stats import spearmanr  # slow to import, and only a report of a divided budget needs it

    return float(spearmanr(pairs).statistic)


def reward_weights(folder: RunFolder) -> dict[str, float | Schedule]:
    """The rewards' weights as the run's config has them; empty if it has none."""
    import yaml

    if not folder.config.exists():
        return {}
    config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    rewards = config.get("rewards") if isinstance(config, dict) else None
    if not isinstance(rewards, dict):
        return {}
    given = {
        str(name): reward["weight"]
        for name, reward in rewards.items()
        if isinstance(reward, dict) and "weight" in reward
    }
    found: dict[str, float | Schedule] = {}
    for name, weight in given.items():
        with suppress(ConfigError):  # a file that somebody has changed
            found[name] = parse(weight)
    return found
