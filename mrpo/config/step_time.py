"""How long a step would take, on policy and with rollouts ahead, by arithmetic from tokens a second. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from mrpo.config.model_size import Quantity
from mrpo.config.run import RunConfig

MEASURED_FROM = 3
"""The first steps compile and fill caches: they aren't measured."""


class Speeds(NamedTuple):
    """What a run has reached, or is thought to."""

    rollout: float
    """Tokens a second that one engine samples."""
    train: float
    """Tokens a second, prompts and responses, that one rank trains on: log-probabilities and update."""
    between: float = 0.0
    """Seconds of a step in which neither is at work: weights, advantages."""
    response: float | None = None
    """Mean tokens of a response."""
    prompt: float | None = None
    """Mean tokens of a prompt."""


def measured(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> Speeds | None:
    """The speeds of a run with separate engines, by the medians of its steps; None if they can't be told.

    Args:
        config: that run's.
        records: lines of its ``metrics.jsonl``.
    """
    names = ("time/step", "time/engine_idle", "time/rank_idle", "rollout/response_length/mean", "train/tokens")
    told = [record for record in records if all(name in record for name in names)]
    # with rollouts ahead, the last steps of a run have nothing left to sample
    of_steps = [record for record in told if record["time/engine_idle"] < record["time/step"]][MEASURED_FROM:]
    if not of_steps or config.rollout.placement != "separate":
        return None
    steps, engines_idle, ranks_idle, lengths, tokens = (median(record[name] for record in of_steps) for name in names)
    weights = median(record.get("time/update_weights", 0.0) for record in of_steps)
    advantage = median(record.get("time/advantage", 0.0) for record in of_steps)
    sampling, training = steps - engines_idle, steps - ranks_idle - weights
    if min(sampling, training) <= 0:
        return None
    rollouts = config.rollouts_per_step
    return Speeds(
        rollout=rollouts * lengths / sampling / _engines(config),
        train=tokens / training / config.ranks,
        between=weights + advantage,
        response=lengths,
        prompt=tokens / rollouts - lengths,
    )


def step_times(config: RunConfig, speeds: Speeds) -> dict[str, Quantity]:
    """Seconds of a step of ``config`` at these speeds, and how many engines would keep its ranks busy."""
    most = speeds.response is None or speeds.prompt is None
    response = speeds.response if speeds.response is not None else float(config.data.max_response_length)
    prompt = speeds.prompt if speeds.prompt is not None else float(config.data.max_prompt_length)
    sampled, trained = config.rollouts_per_step * response, config.rollouts_per_step * (prompt + response)
    engines, ranks = _engines(config), config.ranks
    rollout, train = sampled / speeds.rollout / engines, trained / speeds.train / ranks
    at_most = ", at most: every rollout is taken to be a longest" if most else ""
    balanced = sampled / speeds.rollout / train
    found = {
        "rollouts": (rollout, f"{sampled:,.0f} tokens / ({speeds.rollout:,.0f} a second x {engines} engines){at_most}"),
        "training": (train, f"{trained:,.0f} tokens / ({speeds.train:,.0f} a second x {ranks} ranks){at_most}"),
        "between them": (speeds.between, "weights and advantages"),
        "step, rollout.ahead=0": (rollout + train + speeds.between, "one after the other"),
        "step, rollout.ahead=1": (max(rollout, train) + speeds.between, "the longer of the two"),
    }
    quantities = {name: Quantity(round(seconds, 3), how) for name, (seconds, how) in found.items()}
    why = f"{balanced:.2f}: as many as sample in the time that {ranks} ranks train"
    return quantities | {"engines that balance": Quantity(math.ceil(balanced), why)}


def _engines(config: RunConfig) -> int:
    return config.rollout.replicas * config.rollout.nnodes
