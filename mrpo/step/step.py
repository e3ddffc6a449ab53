"""One training step, from its prompts to its record, in the order in which things happen.

::

     controller                          engines          reward workers        trainer ranks
     ───────────────────────────────     ─────────────    ──────────────────    ─────────────────
     next prompts
     budget.plan: n for each
     submit ───────────────────────────► sample n each ─► score each as it ends
 ┌─► wait ◄───────────────────────────────────────────────┘
 │     failed or filtered groups: plan and submit others
 │   old log-probs ───────────────────────────────────────────────────────────► forward
 │   agreement: these rollouts are of this policy
 │   advantages of all rewards
 │   write: each rollout its advantage
 │   budget.observe: what each prompt's rollouts earned
 └── update ──────────────────────────────────────────────────────────────────► loss, optimizer
     weights ──────────────────────────► load ◄──────────────────────────────── send
     validate, every test_freq steps
     record

The loop on the left runs once a mini-batch. The controller waits for rollouts, for the ranks and for the weights, one
after the other; while it waits for rollouts it also looks for a request to stop, for dead engines and for a stall.
Engines are idle from the last rollout until the next step's prompts, ranks while rollouts are sampled; reward workers
score while engines sample. With ``rollout.ahead`` the prompts of a later step are submitted where this one's are here,
and are waited for between the update and the weights, unless ``rollout.on_sync=continue`` (``mrpo.step.sampling``).
What a step knows is one ``Step``, in which the plan of its prompts travels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from functools import partial

import torch

from mrpo.advantages import compute_advantages
from mrpo.record.busy import busy_shares
from mrpo.record.jsonl import as_read
from mrpo.record.metrics import rename
from mrpo.record.phase import Phase
from mrpo.step.agreement import require_agreement
from mrpo.step.budget import BatchPlan
from mrpo.step.outcome import (
    INFORMATIVE_SHARE,
    failed_too_often,
    reward_metrics,
    rollout_records,
    schedule_metrics,
    source_metrics,
    token_records,
    truncated_share,
)
from mrpo.step.parts import Parts, Step
from mrpo.step.rollouts import Rollouts, select_rollouts
from mrpo.step.sampling import complete, fill, next_batch, take, tended
from mrpo.step.seam import Batch, Metrics

RANKS_PARTS = ("old_log_prob", "ref", "update_actor", "update_weights")
"""Of a step's timings: those in which the ranks are at work."""


def run_step(number: int, run: Parts) -> Metrics:
    """Do step ``number``; returns the metrics that it has recorded.

    Raises:
        RuntimeError: engine and trainer don't agree, a reward failed too often, or too many groups failed.
    """
    step, seam, note = take(number, run), run.seam, run.note
    with seam.timed_step(number, step.timings):
        began = time.monotonic()
        note(Phase.ROLLOUT)
        ahead = fill(step, run)
        if ahead and not step.ready:
            complete(step, run)
        with tended(ahead, run):
            for mini_batch in range(seam.mini_batches):
                if mini_batch > 0 and not step.ready:  # the ranks are done with one, and rollouts are waited for again
                    note(Phase.ROLLOUT)
                learn(next_batch(step, run), step, run, at_once=not ahead)
        observe(step, run)
        growing = [one for one in ahead if not one.ready]
        finish = run.config.rollout.on_sync == "finish"
        if awaited := [one for one in growing if finish or one.sampled_at is not None]:
            note(Phase.ROLLOUT)
            for one in awaited:
                complete(one, run)
        note(Phase.UPDATE_WEIGHTS)
        metrics = seam.combine([(batch.metrics, batch.size) for batch in step.batches]) | seam.update_weights()
    note_scoring(step, run)
    sampled_at = [step.sampled_at, *(one.sampled_at or math.inf for one in growing)]
    metrics |= idle_seconds(step.timings, sampled_at, began)
    if is_validated(run, number):
        with seam.timed("testing"):
            metrics |= run.validate(number)
    recorded = record(step, run, metrics)
    run.agreement.end_step(recorded)
    return recorded


def learn(batch: Batch, step: Step, run: Parts, at_once: bool) -> None:
    """Update on a batch. The budget learns from it ``at_once``, or else when nobody plans by its history (``observe``):
    a plan must not depend on when it was made."""
    seam, note = run.seam, run.note
    seam.spread(batch)
    note(Phase.OLD_LOG_PROB)
    batch.metrics |= seam.old_log_probs(batch)
    require_agreement(batch.metrics)
    note(Phase.ADVANTAGE)
    with seam.timed("adv"):
        assign_advantages(step, run, batch)
        if at_once:
            observe(step, run)
    note(Phase.UPDATE_ACTOR)
    batch.metrics |= seam.update_actor(batch)
    step.batches.append(batch)


def observe(step: Step, run: Parts) -> None:
    """The budget learns what the step's rollouts have earned."""
    for batch, rollouts, advantages_N in step.earned:
        batch.metrics |= run.budget.observe(step.plan, rollouts, advantages_N, step.number)
    step.earned.clear()


def idle_seconds(timings: Mapping[str, float], sampled_at: Iterable[float | None], began: float) -> Metrics:
    """How long in a step the ranks had nothing to do, and the engines nothing to sample.

    Args:
        timings: seconds of the step and of its parts.
        sampled_at: when each of the batches that may have been sampled in the step was complete; infinity: it isn't.
        began: when the step began.

    >>> idle_seconds({"step": 10.0, "update_actor": 4.0, "update_weights": 1.0}, [103.0, 107.0, None], 100.0)
    {'time/rank_idle': 5.0, 'time/engine_idle': 3.0}
    """
    whole = timings.get("step", 0.0)
    sampling = max((at - began for at in sampled_at if at is not None), default=0.0)
    at_work = sum(timings.get(part, 0.0) for part in RANKS_PARTS)
    return {"time/rank_idle": max(0.0, whole - at_work), "time/engine_idle": max(0.0, whole - max(0.0, sampling))}


def note_scoring(step: Step, run: Parts) -> None:
    """Record how busy the reward workers were in the step that has just ended, where its metrics are recorded."""
    workers = run.seam.scored()
    if has_line(run, step.number) and (shares := busy_shares(workers, step.timings.get("step", 0.0))):
        run.folder.event(Phase.SCORED, step=step.number, busy=[round(share, 2) for share in shares])


def is_validated(run: Parts, number: int) -> bool:
    every = run.config.trainer.test_freq
    return every > 0 and (number % every == 0 or number == run.seam.total_steps)


def has_line(run: Parts, number: int) -> bool:
    """Whether the step's metrics are recorded (``observe.metrics``): where it is validated or saved they are, since the
    best checkpoint is found by them."""
    every = run.config.checkpoint.every
    is_saved = every > 0 and number % every == 0
    return is_saved or is_validated(run, number) or run.config.observe.metrics.has(number, run.seam.total_steps)


def assign_advantages(step: Step, run: Parts, batch: Batch) -> None:
    """From the batch's rewards to its tokens' advantages, and to what the budget learns from them."""
    seam, config = run.seam, run.config.advantage_at(step.number)
    rows, correction = seam.read(batch)
    rollouts = select_rollouts(rows, config.names)
    trouble = failed_too_often(rollouts, config.names, run.config.scoring.max_failure_rate)
    recorded = trouble is not None or run.config.observe.rollouts.has(step.number, seam.total_steps)
    texts = seam.texts(batch, rollouts.row_of_N[rollouts.selected_N].tolist()) if recorded else list
    if trouble is not None:
        none_N = torch.zeros(len(rollouts.keys))
        run.folder.write_rollouts(step.number, rollout_records(rollouts, texts, none_N, none_N, config.names))
        raise RuntimeError(f"{trouble}. All of them: {run.folder.rollouts_file(step.number)}")
    masked_N, baseline = rollouts.masked_N(config.algorithm), run.budget.baseline
    history = None if baseline is None else baseline.known(rollouts)
    result = compute_advantages(
        rollouts.rewards_NK,
        rollouts.group_ids_N,
        config,
        lengths_N=rollouts.lengths_N,
        history=history,
        truncated_N=masked_N,
    )
    advantages_N = result.advantages_N * run.budget.loss_weights(rollouts, masked_N)
    if result.loss_weights_N is not None:
        advantages_N = advantages_N * result.loss_weights_N
    seam.write(batch, rollouts, advantages_N, result.keep_N, config.token_modulation)
    if recorded:
        if (observe := run.config.observe).tokens:
            step.tokens.append(token_records(rollouts, observe, partial(seam.tokens, batch)))
        step.records.append(partial(rollout_records, rollouts, texts, advantages_N, result.keep_N, config.names))
    # The mean of a reward is the policy's, of all rollouts; the diagnostics are of those that are compared.
    batch.metrics |= correction | result.diagnostics | reward_metrics(rollouts, config.names)
    for key, scores_K in zip(rollouts.keys, rollouts.rewards_NK.tolist(), strict=True):
        for name, score in zip(config.names, scores_K, strict=True):
            step.scores.setdefault((name, step.source_of[key.uid]), []).append(score)
    step.earned.append((batch, rollouts.without_scores(masked_N), result.advantages_N))
    batch.metrics |= batch_metrics(step.plan, rollouts) | schedule_metrics(run.config.rewards, step.number)


def batch_metrics(plan: BatchPlan, rollouts: Rollouts) -> Metrics:
    incomplete = sum(size < plan.n_by_uid[uid] for uid, size in rollouts.group_sizes.items())
    truncated = truncated_share(rollouts.truncated)
    return {f"rollout/{name}": share for name, share in truncated.items()} | {
        "rollout/padding_rows": int((rollouts.rollout_of_M < 0).sum()),
        "rollout/incomplete_groups": incomplete,
    }


def record(step: Step, run: Parts, metrics: Metrics) -> Metrics:
    """Have what the step leaves written, and sent to the tracking backends under the same names. Nobody waits for it
    but a checkpoint."""
    run.sources.update(source for _, source in step.scores)
    metrics |= source_metrics(step.scores) if len(run.sources) > 1 else {}
    renamed = rename(run.seam.finish(step.batches, metrics)) | run.more_metrics()
    # As a resumed run reads them, so that it says the same.
    changes = run.alarms.judge(as_read(renamed)) if has_line(run, step.number) else []
    renamed |= run.alarms.metrics()

    def write() -> None:
        observed = run.config.observe
        if observed.rollouts.has(step.number, run.seam.total_steps):
            rows = observed.rollouts.of(row for records in step.records for row in records())
            tokens = {(row["uid"], row["sample"]): row for records in step.tokens for row in records()}
            chosen = observed.with_tokens(tokens.keys() & {(row["uid"], row["sample"]) for row in rows})
            run.folder.write_rollouts(step.number, rows, [tokens[key] for key in chosen])
        if has_line(run, step.number):
            run.folder.write_metrics(step.number, renamed)
        run.seam.log(renamed, step.number)

    run.writer.submit(write)
    for change in changes:
        about = {"alarm": change.name, "about": change.about, "value": change.value}
        run.folder.event(change.phase, step=step.number, detail=change.detail, **about)
    warn_of_no_signal(step, run, renamed)
    return renamed


def warn_of_no_signal(step: Step, run: Parts, recorded: Metrics) -> None:
    """Say once in an attempt that a step has taught nothing, and that dynamic sampling throws away what would teach."""
    estimator = run.config.algorithm.estimator
    found = {}
    if recorded.get("advantage/abs_max") == 0 and run.budget.baseline is None:  # else there is no history yet
        found[Phase.NO_ADVANTAGE] = (
            f"{estimator} gives no rollout of the step an advantage: all rollouts of a prompt earn the same, or what "
            "their rewards say cancels. Are prompts too hard, too easy, or the rewards constant?"
        )
    if share := recorded.get(INFORMATIVE_SHARE, 0.0):
        found[Phase.INFORMATIVE_DROPPED] = (
            f"{estimator} would have learned from {share:.0%} of the groups that "
            f"budget.filter_groups={run.config.budget.filter_groups} threw away; advantage throws away only the others"
        )
    for phase, detail in found.items():
        if phase not in run.warned:
            run.warned.add(phase)
            run.folder.event(phase, step=step.number, detail=detail)
