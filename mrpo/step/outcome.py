"""What a batch's rewards say: metrics by reward, a line a rollout for the run folder, and when to stop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

from mrpo.config.observe import ObserveConfig
from mrpo.config.run import RewardConfig
from mrpo.config.schedule import Schedule
from mrpo.record.metrics import name_part
from mrpo.record.token_file import RolloutTokens
from mrpo.step.rollouts import Rollouts
from mrpo.step.seam import RolloutText

INFORMATIVE_SHARE = "rollout/filter_groups/informative_share"
"""Metric: of the groups that dynamic sampling threw away, the share that the estimator would have learned from."""


def failed_too_often(rollouts: Rollouts, names: Sequence[str], max_failure_rate: float) -> str | None:
    """Which reward failed in more than that share of the rollouts, or in all of them, and why; None: none did."""
    for name in names:
        failed = [failures[name] for failures in rollouts.failures if name in failures]
        if failed and (len(failed) > max_failure_rate * len(rollouts.keys) or len(failed) == len(rollouts.keys)):
            most_common = Counter(failed).most_common(1)[0][0]
            return (
                f"reward {name!r} failed in {len(failed)} of {len(rollouts.keys)} rollouts, more than "
                f"scoring.max_failure_rate={max_failure_rate:g} allows. Most often: {most_common}"
            )
    return None


def reward_metrics(rollouts: Rollouts, names: Sequence[str]) -> dict[str, float]:
    """Mean and standard deviation of each reward over the rollouts that have its score, and the shares without."""
    metrics: dict[str, float] = {}
    for column, name in enumerate(names):
        values = rollouts.rewards_NK[:, column]
        scored = values[~values.isnan()]
        causes = [failures[name].partition(":")[0] for failures in rollouts.failures if name in failures]
        metrics[f"reward/{name}/mean"] = float(scored.mean()) if len(scored) else math.nan
        metrics[f"reward/{name}/std"] = float(scored.std(unbiased=False)) if len(scored) else math.nan
        metrics[f"reward/{name}/failed_share"] = len(causes) / len(values)
        metrics |= {f"reward/{name}/failed/{cause}": n for cause, n in Counter(causes).items()}
        metrics[f"reward/{name}/missing_share"] = 1 - len(scored) / len(values)
    return metrics


def schedule_metrics(rewards: Mapping[str, RewardConfig], step: int) -> dict[str, float]:
    """The weights, options and required values that follow the step, as they are in it.

    >>> schedule_metrics({"short": RewardConfig(function="f.py:f", weight={0: 0, 100: 1})}, 25)
    {'reward/short/weight': 0.25}
    """
    metrics: dict[str, float] = {}
    for name, reward in rewards.items():
        if isinstance(reward.weight, Schedule):
            metrics[f"reward/{name}/weight"] = reward.weight.at(step)
        for option, schedule in reward.scheduled_options.items():
            metrics[f"reward/{name}/option/{option}"] = schedule.at(step)
        for other, required in reward.requires.items():
            if isinstance(required, Schedule):
                metrics[f"reward/{name}/requires/{other}"] = required.at(step)
    return metrics


def source_metrics(scores: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, float]:
    """Mean of each reward over the rollouts of a data source that have its score.

    Args:
        scores: by reward and data source; NaN where there is none.

    >>> source_metrics({("correct", "openai/gsm8k"): [1.0, 0.0, math.nan], ("correct", "aime"): [math.nan]})
    {'reward/correct/mean/openai%2Fgsm8k': 0.5, 'reward/correct/mean/aime': nan}
    """
    known = {key: [score for score in of if not math.isnan(score)] for key, of in scores.items()}
    return {
        f"reward/{name}/mean/{name_part(source)}": fmean(of) if of else math.nan for (name, source), of in known.items()
    }


def truncated_share(truncated: Iterable[bool | None]) -> dict[str, float]:
    """The metric of how many responses reached their limit before their end; none where nobody knows.

    >>> truncated_share([True, False, None]), truncated_share([None])
    ({'truncated_share': 0.5}, {})
    """
    known = [one for one in truncated if one is not None]
    return {"truncated_share": sum(known) / len(known)} if known else {}


def tool_metrics(calls_N: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """How often rollouts have called tools, and which share of the calls had no result, by cause; none without tools.

    >>> tool_metrics([[{"failure": None}], [{"failure": "timeout"}, {"failure": None}, {"failure": None}]])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'rollout/tool_calls/mean': 2.0, 'rollout/tool_calls/max': 3.0, 'rollout/tool_calls/failed_share': 0.25,
     'rollout/tool_calls/failed/timeout': 1.0}
    """
    if not calls_N:
        return {}
    numbers = list(map(len, calls_N))
    failures = Counter(str(call["failure"]) for calls in calls_N for call in calls if call["failure"] is not None)
    found = {"mean": fmean(numbers), "max": float(max(numbers))}
    found |= {"failed_share": sum(failures.values()) / max(1, sum(numbers))}
    found |= {f"failed/{cause}": float(number) for cause, number in sorted(failures.items())}
    return {f"rollout/tool_calls/{name}": value for name, value in found.items()}


def token_records(
    rollouts: Rollouts, observe: ObserveConfig, read: Callable[[Sequence[int]], Callable[[], Sequence[RolloutTokens]]]
) -> Callable[[], list[dict[str, Any]]]:
    """Makes the records of the batch's rollouts whose single tokens may be recorded.

    Args:
        read: reads tokens of rows of the batch at once, and decodes them when its result is called.
    """
    row_of = {rollouts.keys[n][:2]: int(rollouts.row_of_N[n]) for n in rollouts.selected_N.nonzero().flatten().tolist()}
    chosen = observe.with_tokens(row_of)
    decode = read([row_of[key] for key in chosen])
    return lambda: [of.record(*key) for key, of in zip(chosen, decode(), strict=True)]


def rollout_records(
    rollouts: Rollouts,
    texts: Callable[[], Sequence[RolloutText]],
    advantages_N: torch.Tensor,
    keep_N: torch.Tensor,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """One record a selected rollout, for the run folder; ``texts`` gives what they say, in their order."""
    records = []
    numbers = rollouts.rewards_NK.tolist(), advantages_N.tolist(), keep_N.bool().tolist()
    for n, text in zip(rollouts.selected_N.nonzero().flatten().tolist(), texts(), strict=True):
        key, (scores, advantage, keep) = rollouts.keys[n], (column[n] for column in numbers)
        record = {
            "uid": key.uid,
            "sample": key.sample,
            "prompt": text.prompt,
            "response": text.response,
            "ground_truth": text.ground_truth,
            "rewards": {name: None if math.isnan(s) else s for name, s in zip(names, scores, strict=True)},
            "advantage": advantage,
            "keep": keep,
            "tokens": text.tokens,
            "truncated": rollouts.truncated[n],
            "versions": list(rollouts.versions[n]),
        }
        if text.messages is not None:
            record["messages"] = list(text.messages)
        if rollouts.failures[n]:
            record["failures"] = rollouts.failures[n]
        if rollouts.details[n]:
            record["details"] = rollouts.details[n]
        records.append(record)
    return records
