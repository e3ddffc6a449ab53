"""The one table of metric names: what they mean, and which of verl's names each one was.

Namespaces: ``reward/<name>/…``, ``advantage/…``, ``budget/…``, ``rollout/…``, ``train/…``, ``time/…``,
``validation/…``, ``alarm/…``. A data source in a name has ``%2F`` for each slash (``name_part``). What verl emits under
a name that the table lacks keeps it under ``verl/…``, so nothing vanishes.
Names are as of verl 0.9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from mrpo.record.jsonl import Record


class Metric(NamedTuple):
    """One line of the table. A name that ends in "/" stands for all names below it."""

    verl: str
    ours: str
    unit: str
    meaning: str


TABLE = (
    # Ours alone: no name of verl's.
    Metric("", "reward/<name>/mean", "score", "mean of one reward over the step's rollouts that it applies to"),
    Metric("", "reward/<name>/mean/<data source>", "score", "the same of one data source, where the run has several"),
    Metric("", "reward/<name>/std", "score", "its standard deviation over those rollouts"),
    Metric(
        "",
        "reward/<name>/failed_share",
        "share",
        "rollouts in which scoring failed; failed/<cause>: how many, by cause",
    ),
    Metric("", "reward/<name>/missing_share", "share", "rollouts without its score: failed or not applicable"),
    Metric(
        "",
        "reward/<name>/weight",
        "-",
        "its weight in the step, where it follows a schedule; option/…, requires/…: the same",
    ),
    Metric("", "reward/<name>/", "-", "more about one reward: see mrpo.advantages.diagnostics"),
    Metric("", "advantage/", "-", "the estimator's diagnostics, over rollouts: see mrpo.advantages.diagnostics"),
    Metric("", "budget/", "-", "how the step's rollouts were divided among prompts: see mrpo.budget.metrics"),
    Metric(
        "", "alarm/", "-", "raised: alarms that are raised; <alarm>/<of what>: the number that is past its threshold"
    ),
    Metric("", "rollout/truncated_share", "share", "rollouts that reached the length limit before their end"),
    Metric("", "validation/truncated_share", "share", "the same of a validation's responses"),
    # verl's names as they are, below a name of ours: val-core and val-aux, data source, reward, statistic.
    Metric(
        "", "validation/", "score", "of the validation set, in steps that validate; <reward>/mean@n: over n samples"
    ),
    # Generation.
    Metric("response_length/", "rollout/response_length/", "tokens", "mean, max, min"),
    Metric("response_length_non_aborted/", "rollout/response_length_non_aborted/", "tokens", "without empty responses"),
    Metric("response/aborted_ratio", "rollout/aborted_ratio", "share", "rollouts with an empty response"),
    Metric("prompt_length/", "rollout/prompt_length/", "tokens", "mean, max, min"),
    Metric("num_turns/", "rollout/num_turns/", "turns", "turns of a conversation"),
    Metric("tool_call_counts/", "rollout/tool_calls/", "calls", "calls of tools by a rollout: mean, max"),
    Metric(
        "", "rollout/tool_calls/failed_share", "share", "calls without a result; failed/<cause>: how many, by cause"
    ),
    Metric("critic/score/", "rollout/score/", "score", "sum of token-level scores, as verl sees them"),
    Metric("critic/rewards/", "rollout/score_after_kl/", "score", "the same after a KL penalty in the reward"),
    Metric(
        "training/rollout_probs_diff_", "rollout/probs_diff/", "probability", "|rollout engine - trainer| per token"
    ),
    Metric("training/rollout_actor_probs_pearson_corr", "rollout/probs_diff/pearson", "-", "correlation of the two"),
    Metric("training/off_policy/", "rollout/off_policy/", "versions", "how far a rollout's weights lag behind"),
    Metric("training/filter_groups/", "rollout/filter_groups/", "rollouts", "dropped for lack of spread"),
    Metric(
        "",
        "rollout/filter_groups/informative_share",
        "share",
        "of the dropped groups, those that the estimator would have learned from; where it isn't asked itself",
    ),
    Metric("training/rollout_failure/", "rollout/failure/", "rollouts", "dropped because generation failed"),
    Metric("rollout_corr/", "rollout/correction/", "-", "importance weights between rollout engine and trainer"),
    # Advantages as verl sees them, per token; those per rollout are the estimator's own.
    Metric("critic/advantages/", "advantage/per_token/", "-", "over response tokens"),
    Metric("critic/returns/", "advantage/returns/", "-", "over response tokens; without a critic, the advantages"),
    # Update.
    Metric("actor/", "train/", "-", "the policy's update: pg_loss, entropy, ppo_kl, kl_loss, grad_norm, lr, …"),
    Metric("critic/", "train/critic/", "-", "the critic's update, where there is one"),
    Metric("perf/mfu/", "train/mfu/", "share", "model FLOPs utilization"),
    Metric("perf/total_num_tokens", "train/tokens", "tokens", "prompts and responses of the step"),
    Metric("perf/throughput", "train/tokens_per_second", "tokens/s", "per device"),
    Metric("global_seqlen/", "train/seqlen_balance/", "tokens", "per rank, before and after balancing"),
    Metric("training/epoch", "train/epoch", "epochs", "passes over the prompts"),
    Metric("variance_proxy/", "train/variance_proxy/", "-", "proxies of the gradient's variance"),
    Metric("checkpoint_engine/", "train/weight_transfer/", "-", "what a weight update moved"),
    # Time.
    Metric("timing_s/step", "time/step", "s", "the whole step; validation comes on top"),
    Metric("", "time/rank_idle", "s", "of the step, in which no trainer rank was at work"),
    Metric("", "time/engine_idle", "s", "of the step, in which no rollout was being sampled or scored"),
    Metric("timing_s/gen", "time/rollout", "s", "waiting for rollouts and their rewards"),
    Metric("timing_s/reward", "time/reward", "s", "scoring that isn't part of the rollout"),
    Metric("timing_s/old_log_prob", "time/old_log_prob", "s", "the trainer's own log-probabilities"),
    Metric("timing_s/ref", "time/ref_log_prob", "s", "the reference model's"),
    Metric("timing_s/values", "time/values", "s", "the critic's values"),
    Metric("timing_s/adv", "time/advantage", "s", "advantages"),
    Metric("timing_s/update_critic", "time/update_critic", "s", "the critic's update"),
    Metric("timing_s/update_actor", "time/update_actor", "s", "the policy's update"),
    Metric("timing_s/update_weights", "time/update_weights", "s", "weights to the rollout engines"),
    Metric("timing_s/save_checkpoint", "time/save", "s", "a checkpoint"),
    Metric("timing_s/testing", "time/validate", "s", "validation, after the step"),
    Metric("timing_s/switch_", "time/switch_", "s", "moving devices between rollout and training"),
    Metric("timing_s/dump_rollout_generations", "time/dump_rollouts", "s", "verl's own dump of rollouts"),
    Metric("timing_per_token_ms/gen", "time/per_token_ms/rollout", "ms", "by response tokens"),
    Metric("timing_per_token_ms/ref", "time/per_token_ms/ref_log_prob", "ms", "by all tokens"),
    Metric("timing_per_token_ms/adv", "time/per_token_ms/advantage", "ms", "by all tokens"),
    Metric("timing_per_token_ms/", "time/per_token_ms/", "ms", "by all tokens"),
)

REPEATED = {
    "training/global_step": "the line's own step",
    "perf/time_per_step": "timing_s/step",
    "training/num_turns/": "num_turns/",
    "response_length/clip_ratio": "share as long as the batch's longest; rollout/truncated_share says what it seems to",
    "response_length_non_aborted/clip_ratio": "the same",
    "prompt_length/clip_ratio": "share as long as the longest prompt; data.overlong says what becomes of long ones",
    "timing_s/start_profile": "a profiler's switch, not a part of the step",
    "timing_s/stop_profile": "a profiler's switch, not a part of the step",
}
"""What is left out on purpose, with the reason (mostly: where the same number is)."""

TITLES = {
    "rollout/response_length/mean": "response length",
    "time/step": "step time",
    "train/entropy": "entropy",
    "train/grad_norm": "grad norm",
}
"""What people read instead of some names, wherever these are shown. A reward is called by its own name."""

NAMESPACES = ("reward/", "advantage/", "budget/", "rollout/", "train/", "time/", "validation/", "alarm/", "verl/")

_OPEN_ENDS = ("/", "_")
_RULES = sorted((row for row in TABLE if row.verl), key=lambda row: -len(row.verl))  # the longest match decides


def name_part(text: str) -> str:
    """Any text, a data source's name say, as one part of a metric's name: a slash would make two of it.

    >>> name_part("openai/gsm8k"), name_part("100%")
    ('openai%2Fgsm8k', '100%25')
    """
    return text.replace("%", "%25").replace("/", "%2F")


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


def reward_names(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the rewards that have a mean in any step, in order of appearance."""
    names: dict[str, None] = {}
    for record in records:
        for key in record:
            if key.startswith("reward/") and key.endswith("/mean") and key.count("/") == 2:
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
