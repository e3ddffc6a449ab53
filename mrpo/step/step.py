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
 │   write: each token its advantage
 │   budget.observe: what each prompt's rollouts earned
 └── update ──────────────────────────────────────────────────────────────────► loss, optimizer
     weights ──────────────────────────► load ◄──────────────────────────────── send
     validate, every test_freq steps
     record

The loop on the left runs once a mini-batch. The controller waits for rollouts, for the ranks and for the weights, one
after the other; while it waits for rollouts it also looks for a request to stop, for dead engines and for a stall.
Engines are idle from the last rollout until the next step's prompts, ranks while rollouts are sampled; reward workers
score while engines sample. What a step knows is one ``Step``, and the plan of its prompts travels in it, so that a
later batch's rollouts may one day be under way while this one is trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from mrpo.advantages import compute_advantages
from mrpo.config.run import RunConfig
from mrpo.record.metrics import rename
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.record.writer import BackgroundWriter
from mrpo.step.agreement import SteadyAgreement, require_agreement
from mrpo.step.budget import BatchPlan, RolloutBudget
from mrpo.step.outcome import failed_too_often, reward_metrics, rollout_records, source_metrics, truncated_share
from mrpo.step.position import Position
from mrpo.step.rollouts import Rollouts, select_rollouts
from mrpo.step.seam import Batch, Metrics, Seam

MAX_REFILLS = 8
"""A step may ask for this many times its prompts before the run stops: failed and filtered groups would be replaced for
ever."""

MOSTLY = 0.5
"""Share of a step's responses that may be truncated without a warning."""


@dataclass
class Step:
    """What one step knows. Nothing of it outlives the step."""

    number: int
    plan: BatchPlan = field(default_factory=BatchPlan)
    batches: list[Batch] = field(default_factory=list)
    source_of: dict[str, str] = field(default_factory=dict)
    """Data source of each prompt, by its uid."""
    scores: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """By reward and data source."""
    records: list[Callable[[], list[dict[str, Any]]]] = field(default_factory=list)
    """Of each batch that the run folder gets: makes a line a rollout of it, when the line is written."""
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What all steps of a run share."""

    config: RunConfig
    seam: Seam
    budget: RolloutBudget
    position: Position
    folder: RunFolder
    note: Callable[[Phase], None]
    """Says that a phase of the step begins."""
    validate: Callable[[int], Metrics]
    more_metrics: Callable[[], Metrics]
    """Metrics of what happened between steps."""
    writer: BackgroundWriter
    """Of what a step leaves."""
    agreement: SteadyAgreement
    sources: set[str] = field(default_factory=set)
    """Data sources that this attempt has seen: rewards are told apart by them from the second on."""
    warned: set[Phase] = field(default_factory=set)
    """Of what this attempt has warned already."""


def run_step(number: int, run: Parts) -> Metrics:
    """Do step ``number``; returns the metrics that it has recorded.

    Raises:
        RuntimeError: engine and trainer don't agree, a reward failed too often, or too many groups failed.
    """
    step, seam, note = Step(number), run.seam, run.note
    with seam.timed_step(number, step.timings):
        note(Phase.ROLLOUT)
        submit(step, run, run.config.data.train_batch_size)
        for mini_batch in range(seam.mini_batches):
            if mini_batch > 0:  # the ranks are done with one, and rollouts are waited for again
                note(Phase.ROLLOUT)
            prompts = run.config.data.train_batch_size // seam.mini_batches
            batch = seam.wait(prompts, refill=lambda count: submit(step, run, count))
            note(Phase.OLD_LOG_PROB)
            batch.metrics |= seam.old_log_probs(batch)
            require_agreement(batch.metrics)
            note(Phase.ADVANTAGE)
            with seam.timed("adv"):
                assign_advantages(step, run, batch)
            note(Phase.UPDATE_ACTOR)
            batch.metrics |= seam.update_actor(batch)
            step.batches.append(batch)
        note(Phase.UPDATE_WEIGHTS)
        metrics = seam.combine([(batch.metrics, batch.size) for batch in step.batches]) | seam.update_weights()
    if is_validated(run, number):
        with seam.timed("testing"):
            metrics |= run.validate(number)
    recorded = record(step, run, metrics)
    run.agreement.end_step(recorded)
    return recorded


def is_validated(run: Parts, number: int) -> bool:
    every = run.config.trainer.test_freq
    return every > 0 and (number % every == 0 or number == run.seam.total_steps)


def has_line(run: Parts, number: int) -> bool:
    """Whether the step's metrics are recorded (``observe.metrics``): where it is validated or saved they are, since the
    best checkpoint is found by them."""
    every = run.config.checkpoint.every
    is_saved = every > 0 and number % every == 0
    return is_saved or is_validated(run, number) or run.config.observe.metrics.has(number, run.seam.total_steps)


def submit(step: Step, run: Parts, count: int) -> None:
    """Plan and start the rollouts of the next ``count`` prompts. Called again when groups must be replaced."""
    plan, prompts_per_step = step.plan, run.config.data.train_batch_size
    plan.submitted += count
    if plan.submitted > MAX_REFILLS * prompts_per_step:
        name = run.config.budget.filter_groups
        reason = "groups keep failing (see the rollout workers' logs)"
        if name is not None:
            reason = (
                f"the groups have zero variance: all rollouts of a prompt earn the same {name} "
                f"(budget.filter_groups={name}). Is it too hard, too easy, or a constant? Else {reason}"
            )
        raise RuntimeError(
            f"step {step.number} asked for {plan.submitted} prompts, more than {MAX_REFILLS} times its "
            f"{prompts_per_step}: {reason}"
        )
    prompts = run.seam.next_prompts(count)
    uids = run.position.uids(prompts)
    step.source_of |= {uid: str(of.data_source) for uid, of in zip(uids, prompts.contents_G, strict=True)}
    plan.drop_all_but(run.seam.unfinished_prompts())  # what groups that were thrown away had goes to the new ones
    n_G = run.budget.plan(plan, uids)
    run.seam.submit(prompts, uids, n_G.tolist())


def assign_advantages(step: Step, run: Parts, batch: Batch) -> None:
    """From the batch's rewards to its tokens' advantages, and to what the budget learns from them."""
    seam, config = run.seam, run.config.advantage
    rows, correction = seam.read(batch)
    rollouts = select_rollouts(rows, config.names)
    trouble = failed_too_often(rollouts, config.names, run.config.scoring.max_failure_rate)
    recorded = trouble is not None or run.config.observe.rollouts.has(step.number, seam.total_steps)
    texts = seam.texts(batch, rollouts.row_of_N[rollouts.selected_N].tolist()) if recorded else []
    if trouble is not None:
        none_N = torch.zeros(len(rollouts.keys))
        run.folder.write_rollouts(step.number, rollout_records(rollouts, texts, none_N, none_N, config.names))
        raise RuntimeError(f"{trouble}. All of them: {run.folder.rollouts_file(step.number)}")
    result = compute_advantages(rollouts.rewards_NK, rollouts.group_ids_N, config, lengths_N=rollouts.lengths_N)
    advantages_N = result.advantages_N * run.budget.loss_weights(rollouts)
    if result.loss_weights_N is not None:
        advantages_N = advantages_N * result.loss_weights_N
    seam.write(batch, rollouts, advantages_N, result.keep_N, config.token_modulation)
    if recorded:
        step.records.append(partial(rollout_records, rollouts, texts, advantages_N, result.keep_N, config.names))
    batch.metrics |= correction | reward_metrics(rollouts, config.names) | result.diagnostics
    for key, scores_K in zip(rollouts.keys, rollouts.rewards_NK.tolist(), strict=True):
        for name, score in zip(config.names, scores_K, strict=True):
            step.scores.setdefault((name, step.source_of[key.uid]), []).append(score)
    batch.metrics |= run.budget.observe(step.plan, rollouts, result.advantages_N, step.number)
    batch.metrics |= batch_metrics(step.plan, rollouts)


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

    def write() -> None:
        recorded = run.config.observe.rollouts
        if recorded.has(step.number, run.seam.total_steps):
            rows = [row for records in step.records for row in records()]
            run.folder.write_rollouts(step.number, recorded.of(rows))
        if has_line(run, step.number):
            run.folder.write_metrics(step.number, renamed)
        run.seam.log(renamed, step.number)

    run.writer.submit(write)
    warn_of_truncation(step, run, renamed.get("rollout/truncated_share", 0.0))
    return renamed


def warn_of_truncation(step: Step, run: Parts, share: float) -> None:
    """Say once in an attempt that a step's responses are mostly without an end: rewards that look for one earn 0."""
    if share > MOSTLY and Phase.TRUNCATED not in run.warned:
        run.warned.add(Phase.TRUNCATED)
        limit = run.config.data.max_response_length
        detail = f"{share:.0%} of the step's responses reached data.max_response_length={limit} before their end"
        run.folder.event(Phase.TRUNCATED, step=step.number, detail=detail)
