"""What each alarm looks at in a step's metrics, what it says, and what to do about it: one row an alarm.

Thresholds are in ``mrpo.config.alarms``, under the same names; ``docs/alarms.md`` is the table for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from mrpo.record.metrics import number, reward_names

Line = Mapping[str, Any]
"""A step's metrics under their names."""
Found = Iterator[tuple[str, float]]
"""What a number is about (a reward, two with a slash between them, a setting, or nothing), and the number."""

FIRST_STEPS = 3
"""Steps with a line at a run's beginning that later ones are compared with."""
VARIES = 0.2
"""Share of prompt groups in which a reward must vary, for its correlations to be more than those of a few groups."""
ROUNDING = 2e-5
"""Of a token's probability, engine against trainer: what differs by less doesn't drift."""
CORRELATION = "advantage/correlation/"


class Rule(NamedTuple):
    name: str
    past: Literal["above", "below", "beyond"]
    """Which side of its threshold the alarm is for; beyond: above it with either sign."""
    measure: Callable[[Line, Sequence[Line]], Found]
    """Of a step's line and of the run's first ones; nothing for what the line doesn't say."""
    finding: str
    remedy: str

    def is_past(self, value: float, threshold: float) -> bool:
        if self.past == "below":
            return value < threshold
        return (abs(value) if self.past == "beyond" else value) > threshold


def dominance(line: Line, first: Sequence[Line]) -> Found:
    """Shares of the advantage's mean square; 0 where all other rewards are learned, so that one is all that is left."""
    names = trained(line)
    for name in names:
        share = number(line, f"reward/{name}/advantage_share")
        if share is not None and len(names) > 1:
            left = any(not is_learned(other, line, first) for other in names if other != name)
            yield name, share if left else 0.0


def constancy(line: Line, first: Sequence[Line]) -> Found:
    """Shares of zero-variance groups; 0 for a reward that the run has learned."""
    for name in trained(line):
        if (share := number(line, f"reward/{name}/zero_variance_share")) is not None:
            yield name, 0.0 if is_learned(name, line, first) else share


def forecasts(line: Line, first: Sequence[Line]) -> Found:
    for name in reward_names([line]):
        if (errors := number(line, f"reward/{name}/forecast")) is not None:
            yield name, errors


def truncation(line: Line, first: Sequence[Line]) -> Found:
    if (share := number(line, "rollout/truncated_share")) is not None:
        yield "", share


def filtering(line: Line, first: Sequence[Line]) -> Found:
    """What the estimator's own filter drops of the rollouts, and dynamic sampling of the prompts."""
    if (kept := number(line, "advantage/keep_ratio")) is not None:
        yield "algorithm.estimator", 1 - kept
    evicted, prompts = number(line, "rollout/filter_groups/evicted_samples"), number(line, "budget/prompts")
    if prompts is not None:
        yield "budget.filter_groups", (evicted or 0.0) / max(1.0, (evicted or 0.0) + prompts)


def entropy(line: Line, first: Sequence[Line]) -> Found:
    now, before = number(line, "train/entropy"), at_first("train/entropy", first)
    if now is not None and before:
        yield "", now / before


def drift(line: Line, first: Sequence[Line]) -> Found:
    """Against the largest of the first steps: with ``rollout.ahead`` the very first one has no older weights."""
    metric = "rollout/probs_diff/mean"
    before = [value for one in first if (value := number(one, metric)) is not None]
    if len(first) == FIRST_STEPS and before and (now := number(line, metric)) is not None:
        yield "", now / max(ROUNDING, *before)


def copies(line: Line, first: Sequence[Line]) -> Found:
    for metric in line:
        if metric.startswith(CORRELATION) and (correlation := number(line, metric)) is not None:
            pair = metric.removeprefix(CORRELATION)
            if all(density(name, line) >= VARIES for name in pair.split("/")):
                yield pair, correlation


def lengths(line: Line, first: Sequence[Line]) -> Found:
    for name in trained(line):
        correlation = number(line, f"reward/{name}/length_correlation")
        if correlation is not None and density(name, line) >= VARIES:
            yield name, correlation


def trained(line: Line) -> list[str]:
    """Rewards that the advantage is made of: one of weight 0 has no density."""
    return [name for name in reward_names([line]) if number(line, f"reward/{name}/density") is not None]


def density(name: str, line: Line) -> float:
    return number(line, f"reward/{name}/density") or 0.0


def is_learned(name: str, line: Line, first: Sequence[Line]) -> bool:
    """Whether a reward varies in few groups because the run has raised it to where most rollouts earn the same."""
    mean, std = (number(line, f"reward/{name}/{what}") for what in ("mean", "std"))
    mean_before, std_before = (at_first(f"reward/{name}/{what}", first) for what in ("mean", "std"))
    if mean is None or std is None or mean_before is None or std_before is None:
        return False
    return density(name, line) < VARIES and mean > mean_before and std < std_before / 2


def at_first(metric: str, first: Sequence[Line]) -> float | None:
    """Mean over the first steps; None before they are over."""
    values = [value for line in first if (value := number(line, metric)) is not None]
    return fmean(values) if values and len(first) == FIRST_STEPS else None


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "dominant_reward",
            "above",
            dominance,
            "{about} carries {value:.0%} of the advantage's square, and the other rewards hardly count",
            "Lower its weight, or take an estimator that normalizes each reward by itself (gdpo), or that also counts "
            "rewards more that vary in few groups (dara)",
        ),
        Rule(
            "constant_reward",
            "above",
            constancy,
            "{about} is the same for all rollouts of a prompt in {value:.0%} of the groups, where it teaches nothing",
            "Does its function always return one score? Else take easier or harder prompts, a finer score, or more "
            "rollouts of a prompt (budget.rollouts_per_prompt)",
        ),
        Rule(
            "falling_reward",
            "below",
            forecasts,
            "{about} covaries negatively with the advantage ({value:.1f} standard errors), so the updates lower it",
            "Raise its weight, or take an estimator that leaves out rollouts on which rewards disagree (gd2po); "
            "advantage/correlation says which reward works against it",
        ),
        Rule(
            "truncated",
            "above",
            truncation,
            "{value:.0%} of the responses reached data.max_response_length before their end",
            "Raise it; algorithm.truncated=mask leaves them out of the loss",
        ),
        Rule(
            "filtered",
            "above",
            filtering,
            "{about} drops {value:.0%} of the batch",
            "Loosen the filter or take another one, or prompts on whose rollouts rewards differ, or agree, more",
        ),
        Rule(
            "entropy_collapse",
            "below",
            entropy,
            "the policy's entropy is {value:.1%} of what it was in the first steps, so that rollouts hardly differ",
            "Lower actor.learning_rate, raise actor.clip_ratio_high or actor.entropy_coeff, or stop here if the "
            "rewards are learned",
        ),
        Rule(
            "engine_drift",
            "above",
            drift,
            "token probabilities of engine and trainer differ {value:.0f} times as much as in the first steps",
            "Compare model.dtype with rollout.dtype, and look for what only one side masks or adapts; "
            "algorithm.off_policy corrects for it",
        ),
        Rule(
            "copied_reward",
            "above",
            copies,
            "{about} say the same (correlation {value:.2f} within groups), so that it counts twice",
            "Drop one of them, or halve their weights",
        ),
        Rule(
            "length_reward",
            "beyond",
            lengths,
            "{about} follows the response's length (correlation {value:+z.2f} within groups)",
            "If that is what it is for, add it to observe.alarms.length_reward.ignore; else score so that length alone "
            "doesn't pay",
        ),
    )
}
"""By name, in the order of the documentation."""
