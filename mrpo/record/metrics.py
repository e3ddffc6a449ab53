"""The one table of metric names: what they mean, and which of verl's names each one was.

Namespaces: ``reward/<name>/…``, ``advantage/…``, ``budget/…``, ``rollout/…``, ``train/…``, ``time/…``,
``validation/…``. What verl emits under a name that the table lacks keeps it under ``verl/…``, so nothing vanishes.
Names are as of verl 0.9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from mrpo.record.jsonl import Record


class Row(NamedTuple):
    """One line of the table. A name that ends in "/" stands for all names below it."""

    verl: str
    ours: str
    unit: str
    meaning: str


PHASES = (
    "rollout",
    "reward",
    "old_log_prob",
    "ref_log_prob",
    "values",
    "advantage",
    "update_critic",
    "update_actor",
    "update_weights",
    "save",
    "validate",
)
"""The parts of a step that don't overlap, in their order; each one's seconds are ``time/<phase>``."""

TABLE = (
    # Ours alone: no name of verl's.
    Row("", "reward/<name>/mean", "score", "mean of one reward over the step's rollouts that it applies to"),
    Row("", "reward/<name>/std", "score", "its standard deviation over those rollouts"),
    Row(
        "",
        "reward/<name>/failed_share",
        "share",
        "rollouts in which scoring failed; failed/<cause>: how many, by cause",
    ),
    Row("", "reward/<name>/missing_share", "share", "rollouts without its score: failed or not applicable"),
    Row("", "reward/<name>/", "-", "more about one reward: see mrpo.advantages.diagnostics"),
    Row("", "advantage/", "-", "the estimator's diagnostics, over rollouts: see mrpo.advantages.diagnostics"),
    Row("", "budget/", "-", "how the step's rollouts were divided among prompts: see mrpo.budget.metrics"),
    # verl's names as they are, below a name of ours: val-core and val-aux, data source, reward, statistic.
    Row("", "validation/", "score", "of the validation set, in steps that validate; <reward>/mean@n: over n samples"),
    # Generation.
    Row("response_length/", "rollout/response_length/", "tokens", "mean, max, min; clip_ratio: share cut off"),
    Row("response_length_non_aborted/", "rollout/response_length_non_aborted/", "tokens", "without empty responses"),
    Row("response/aborted_ratio", "rollout/aborted_ratio", "share", "rollouts with an empty response"),
    Row("prompt_length/", "rollout/prompt_length/", "tokens", "mean, max, min; clip_ratio: share cut off"),
    Row("num_turns/", "rollout/num_turns/", "turns", "turns of a conversation"),
    Row("tool_call_counts/", "rollout/tool_calls/", "calls", "tool calls of a conversation"),
    Row("critic/score/", "rollout/score/", "score", "sum of token-level scores, as verl sees them"),
    Row("critic/rewards/", "rollout/score_after_kl/", "score", "the same after a KL penalty in the reward"),
    Row("training/rollout_probs_diff_", "rollout/probs_diff/", "probability", "|rollout engine - trainer| per token"),
    Row("training/rollout_actor_probs_pearson_corr", "rollout/probs_diff/pearson", "-", "correlation of the two"),
    Row("training/off_policy/", "rollout/off_policy/", "versions", "how far a rollout's weights lag behind"),
    Row("training/filter_groups/", "rollout/filter_groups/", "rollouts", "dropped for lack of spread"),
    Row("training/rollout_failure/", "rollout/failure/", "rollouts", "dropped because generation failed"),
    Row("rollout_corr/", "rollout/correction/", "-", "importance weights between rollout engine and trainer"),
    # Advantages as verl sees them, per token; those per rollout are the estimator's own.
    Row("critic/advantages/", "advantage/per_token/", "-", "over response tokens"),
    Row("critic/returns/", "advantage/returns/", "-", "over response tokens; without a critic, the advantages"),
    # Update.
    Row("actor/", "train/", "-", "the policy's update: pg_loss, entropy, ppo_kl, kl_loss, grad_norm, lr, …"),
    Row("critic/", "train/critic/", "-", "the critic's update, where there is one"),
    Row("perf/mfu/", "train/mfu/", "share", "model FLOPs utilization"),
    Row("perf/total_num_tokens", "train/tokens", "tokens", "prompts and responses of the step"),
    Row("perf/throughput", "train/tokens_per_second", "tokens/s", "per device"),
    Row("global_seqlen/", "train/seqlen_balance/", "tokens", "per rank, before and after balancing"),
    Row("training/epoch", "train/epoch", "epochs", "passes over the prompts"),
    Row("variance_proxy/", "train/variance_proxy/", "-", "proxies of the gradient's variance"),
    Row("checkpoint_engine/", "train/weight_transfer/", "-", "what a weight update moved"),
    # Time.
    Row("timing_s/step", "time/step", "s", "the whole step; validation comes on top"),
    Row("timing_s/gen", "time/rollout", "s", "waiting for rollouts and their rewards"),
    Row("timing_s/reward", "time/reward", "s", "scoring that isn't part of the rollout"),
    Row("timing_s/old_log_prob", "time/old_log_prob", "s", "the trainer's own log-probabilities"),
    Row("timing_s/ref", "time/ref_log_prob", "s", "the reference model's"),
    Row("timing_s/values", "time/values", "s", "the critic's values"),
    Row("timing_s/adv", "time/advantage", "s", "advantages"),
    Row("timing_s/update_critic", "time/update_critic", "s", "the critic's update"),
    Row("timing_s/update_actor", "time/update_actor", "s", "the policy's update"),
    Row("timing_s/update_weights", "time/update_weights", "s", "weights to the rollout engines"),
    Row("timing_s/save_checkpoint", "time/save", "s", "a checkpoint"),
    Row("timing_s/testing", "time/validate", "s", "validation, after the step"),
    Row("timing_s/switch_", "time/switch_", "s", "moving devices between rollout and training"),
    Row("timing_s/dump_rollout_generations", "time/dump_rollouts", "s", "verl's own dump of rollouts"),
    Row("timing_per_token_ms/gen", "time/per_token_ms/rollout", "ms", "by response tokens"),
    Row("timing_per_token_ms/ref", "time/per_token_ms/ref_log_prob", "ms", "by all tokens"),
    Row("timing_per_token_ms/adv", "time/per_token_ms/advantage", "ms", "by all tokens"),
    Row("timing_per_token_ms/", "time/per_token_ms/", "ms", "by all tokens"),
)

REPEATED = {
    "training/global_step": "the line's own step",
    "perf/time_per_step": "timing_s/step",
    "training/num_turns/": "num_turns/",
    "timing_s/start_profile": "a profiler's switch, not a part of the step",
    "timing_s/stop_profile": "a profiler's switch, not a part of the step",
}
"""What is left out on purpose, with the reason (mostly: where the same number is)."""

NAMESPACES = ("reward/", "advantage/", "budget/", "rollout/", "train/", "time/", "validation/", "verl/")

_OPEN_ENDS = ("/", "_")
_RULES = sorted((row for row in TABLE if row.verl), key=lambda row: -len(row.verl))  # the longest match decides


def rename(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A step's metrics under our names. Names that are ours already stay, so renaming twice changes nothing.

    Raises:
        ValueError: two metrics would get the same name.
    """
    renamed: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, value in metrics.items():
        ours = _our_name(name)
        if ours is None:
            continue
        if ours in origin:
            raise ValueError(f"metrics {origin[ours]!r} and {name!r} would both be named {ours!r}")
        renamed[ours], origin[ours] = value, name
    return renamed


def _our_name(name: str) -> str | None:
    if any(_matches(name, left_out) for left_out in REPEATED):
        return None
    if name.startswith(NAMESPACES):
        return name
    for row in _RULES:
        if _matches(name, row.verl):
            return row.ours + name.removeprefix(row.verl)
    return f"verl/{name}"


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern) if pattern.endswith(_OPEN_ENDS) else name == pattern


# ---- reading metrics back ----


def number(record: Mapping[str, Any], name: str) -> float | None:
    """A metric of one step, or None where the step lacks it (null counts as lacking)."""
    value = record.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def series(records: Iterable[Record], name: str) -> tuple[list[int], list[float]]:
    """Steps that have the metric, and its values there."""
    pairs = [(int(r["step"]), value) for r in records if (value := number(r, name)) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def reward_names(records: Iterable[Record]) -> list[str]:
    """Names of the rewards that have a mean in any step, in order of appearance."""
    names: dict[str, None] = {}
    for record in records:
        for key in record:
            if key.startswith("reward/") and key.endswith("/mean") and key.count("/") >= 2:
                names.setdefault(key.removeprefix("reward/").removesuffix("/mean"))
    return list(names)


def validation(records: Iterable[Record], reward: str) -> tuple[list[int], list[float]]:
    """Steps that validated, and the reward's mean over the validation set: the plain mean of its data sources."""
    wanted = re.compile(rf"validation/val-(core|aux)/.+/{re.escape(reward)}/mean@\d+")
    found = []
    for record in records:
        values = [number(record, name) for name in record if wanted.fullmatch(name)]
        if known := [value for value in values if value is not None]:
            found.append((int(record["step"]), fmean(known)))
    return [step for step, _ in found], [value for _, value in found]
