"""verl's metrics of a step's rows, from what the rows' tags and sums say: no token is read for them.

verl makes them in the controller from arrays of all tokens, padded to the longest response. Names and values are the
same, but for routed experts and speculative decoding, of which there are none, and for the lengths of responses that
hold a tool's text: they are counted without it. Shapes: M rows of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from verl.protocol import DataProto
from verl.trainer.ppo.metric_utils import compute_throughout_metrics, compute_timing_metrics

from mrpo.rewards.wire import REWARD, TURNS
from mrpo.step.seam import Metrics
from mrpo.step.token_advantages import TokenAdvantages
from mrpo.verl_seam.rows import VerlBatch, fetch, is_padding, model_tokens

NAN = float("nan")


def step_metrics(batches: Sequence[VerlBatch], timings: Mapping[str, float], step: int, devices: int) -> Metrics:
    """
    Args:
        batches: of the step, with advantages.
        timings: seconds of the step and of its parts.
        step: its number.
        devices: how many the throughput is divided by.
    """
    tags = [tag for batch in batches for tag in batch.handle.tags]
    scores, turns = (np.concatenate(of) for of in zip(*map(rewards_and_turns, batches), strict=True))
    real = np.array([not is_padding(tag) for tag in tags], dtype=bool)
    real = real if real.any() else ~real
    prompt, response = (np.array([tag[name] for tag in tags]) for name in ("prompt_len", "response_len"))
    oldest, newest = (
        np.array([tag.get(name) for tag in tags], dtype=float) for name in ("min_global_steps", "max_global_steps")
    )  # NaN of an agent loop that doesn't hand on what the engine says
    known = real & ~np.isnan(oldest + newest)
    written, there = np.array([model_tokens(tag) for tag in tags]), real & (response > 0)
    advantages = TokenAdvantages()
    for batch in batches:
        advantages |= batch.advantages
    metrics: Metrics = {}
    for name, values in (
        ("critic/score", scores[there]),
        ("critic/rewards", scores[there]),
        ("response_length", written[real]),
        ("response_length_non_aborted", written[there]),
        ("prompt_length", prompt[real]),
        ("num_turns", turns[real]),
        ("training/num_turns", turns[real]),
        ("training/off_policy/trajectory_spans", (newest - oldest + 1)[known]),
        ("training/off_policy/trajectory_staleness", (step - 1 - newest)[known]),
        ("training/off_policy/trajectory_staleness_worst", (step - 1 - oldest)[known]),
    ):
        metrics |= {f"{name}/{statistic}": value for statistic, value in spread_of(values).items()}
    for name in ("critic/advantages", "critic/returns"):  # without a critic they are one
        metrics |= {f"{name}/{statistic}": value for statistic, value in advantages.metrics().items()}
    metrics["response/aborted_ratio"] = float((response[real] == 0).mean())
    lengths = {"prompt_length": torch.tensor(prompt).float(), "response_length": torch.tensor(response).float()}
    total = {"global_token_num": [int((prompt + response).sum())]}
    whole = DataProto(batch=TensorDict(lengths, batch_size=len(tags)), meta_info=total)
    metrics |= compute_timing_metrics(whole, dict(timings))
    return metrics | compute_throughout_metrics(whole, dict(timings), devices)


def spread_of(values: np.ndarray[Any, Any]) -> Metrics:
    """
    >>> spread_of(np.array([1, 2, 6])), spread_of(np.array([]))
    ({'mean': 3.0, 'max': 6.0, 'min': 1.0}, {'mean': nan, 'max': nan, 'min': nan})
    """
    found = (values.mean(), values.max(), values.min()) if len(values) else (NAN, NAN, NAN)
    return dict(zip(("mean", "max", "min"), map(float, found), strict=True))


def rewards_and_turns(batch: VerlBatch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of each row its total reward and its turns: they are read where the tags don't say, as other agent loops'."""
    tags = batch.handle.tags
    silent = [row for row, tag in enumerate(tags) if REWARD not in tag or TURNS not in tag]
    read = fetch(batch.handle, ["rm_scores", "num_turns"], silent)
    scores, turns = (np.array([tag.get(name, NAN) for tag in tags], dtype=float) for name in (REWARD, TURNS))
    if silent:
        scores[silent] = [float(of.sum()) for of in read["rm_scores"]]
        turns[silent] = [float(of) for of in read["num_turns"]]
    return scores, turns
