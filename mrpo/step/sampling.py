"""Prompts out, rollouts back: those of a step, and those of the steps ahead of it.

With ``rollout.ahead`` a step's prompts are submitted so many steps before its turn, and sampled while the ranks train::

    step         1                  2                  3                  4
    ranks        train 1 (W0→W1)    train 2 (W1→W2)    train 3 (W2→W3)    …
    engines      sample 1, 2 by W0  sample 3 by W1     sample 4 by W2     …

Engines get new weights when all that is under way is complete, so that each rollout is of one policy, and each batch
of the weights that are ``ahead`` steps older than those that learn from it (fewer in the first steps of a run). With
``rollout.on_sync=continue`` they get them when there are any, and what is under way goes on by them. The plan of a
step is made from the history as it is when the step's prompts are submitted, and stays with the step: groups that fail
or are filtered out are replaced in the step that they belong to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.step.parts import Parts, Step
from mrpo.step.seam import Batch, Commit

MAX_REFILLS = 8
"""A step may ask for this many times its prompts before the run stops: failed and filtered groups would be replaced for
ever."""
TEND_SECONDS = 0.25
"""While ranks train, how often the rollouts under way are looked after."""


def take(number: int, run: Parts) -> Step:
    """Step ``number``, whose turn it is: as its prompts' submission left it, or new."""
    return run.under_way.pop(number, None) or Step(number)


def fill(step: Step, run: Parts) -> list[Step]:
    """Submit the prompts of ``step`` and of the steps ahead of it, as far as they aren't. Returns the steps ahead."""
    last = min(step.number + run.config.rollout.ahead, run.seam.total_steps)
    for number in range(step.number + 1, last + 1):
        run.under_way.setdefault(number, Step(number))
    ahead = [run.under_way[number] for number in sorted(run.under_way)]
    for one in (step, *ahead):
        if one.plan.submitted == 0:
            if run.config.rollout.on_sync == "continue":
                one.began_at = run.position.state_dict()
            submit(one, run, run.config.data.train_batch_size)
    return ahead


def resubmit(run: Parts) -> None:
    """Start the rollouts of the steps under way that a checkpoint has only the plans of: of the same prompts, as many
    of each. They lie between where the run was in its data when the first of them were fetched, and where it is now.

    Raises:
        CheckpointError: the data hasn't got them any more.
    """
    begun = [step for step in run.under_way.values() if not step.ready]
    wanted = {uid: step for step in begun for uid in step.plan.n_by_uid}
    begins = [step.began_at for step in begun if step.began_at is not None]
    if not begins:
        return
    here = run.position.prompts_fetched
    run.position.load_state_dict(min(begins, key=lambda at: at["prompts_fetched"]))
    while left := here - run.position.prompts_fetched:
        prompts = run.seam.next_prompts(min(left, run.config.data.train_batch_size))
        fetched = list(enumerate(run.position.uids(prompts)))
        for step in begun:
            chosen = {i: uid for i, uid in fetched if wanted.get(uid) is step}
            if chosen:
                uids = list(chosen.values())
                n_G = run.budget.again(step.plan, uids)
                run.seam.submit(run.seam.select(prompts, list(chosen)), uids, n_G, step.number)
        for _, uid in fetched:
            wanted.pop(uid, None)
    if wanted:
        raise CheckpointError(
            f"{len(wanted)} prompts of step {min(step.number for step in wanted.values())} and later were being "
            "sampled when this was saved, and the data hasn't got them any more. Go on with the data as they were"
        )


def submit(step: Step, run: Parts, count: int) -> None:
    """Plan and start the rollouts of the next ``count`` prompts. Called again when groups must be replaced.

    Raises:
        RuntimeError: groups of the step were replaced too often.
    """
    plan, prompts_per_step = step.plan, run.config.data.train_batch_size
    plan.submitted += count
    if plan.submitted > MAX_REFILLS * prompts_per_step:
        name = run.config.budget.filter_groups
        reason = "groups keep failing (see the rollout workers' logs)"
        if name == "advantage":
            reason = (
                f"{run.config.algorithm.estimator} gives the groups no advantage: all rollouts of a prompt earn the "
                "same, or what their rewards say cancels (budget.filter_groups=advantage). Are prompts too hard, too "
                f"easy, or the rewards constant? Else {reason}"
            )
        elif name is not None:
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
    n_G = run.budget.plan(plan, uids, step.number)
    run.seam.submit(prompts, uids, n_G.tolist(), step.number)


def commit_of(step: Step, run: Parts) -> Commit | None:
    """How the rest of the step's rollouts is divided when its pilots are there; None: the budget has no pilots."""
    return partial(run.budget.commit, step.plan) if run.config.budget.has_pilot else None


def next_batch(step: Step, run: Parts) -> Batch:
    """The next mini-batch of ``step``: one that is ready, or waited for."""
    if step.ready:
        return step.ready.pop(0)
    prompts = run.config.data.train_batch_size // run.seam.mini_batches
    batch = run.seam.wait(step.number, prompts, partial(submit, step, run), commit_of(step, run))
    if step.sampled_at is None:
        step.sampled_at = time.monotonic()
    return batch


def complete(step: Step, run: Parts) -> None:
    """Wait until all of the step's batches are ready."""
    ready = [next_batch(step, run) for _ in range(run.seam.mini_batches)]
    step.ready = ready


@contextmanager
def tended(steps: Sequence[Step], run: Parts) -> Iterator[None]:
    """In the block, while the ranks are at work, groups of ``steps`` that failed or are filtered out are replaced.

    Raises:
        RuntimeError: as ``submit`` does, at the end of the block.
    """
    done = threading.Event()

    def tend() -> None:
        growing = [step for step in steps if not step.ready]
        while growing and not done.wait(TEND_SECONDS):
            for step in growing:
                if run.seam.tend(step.number, partial(submit, step, run), commit_of(step, run)) == 0:
                    step.sampled_at = time.monotonic()
            growing = [step for step in growing if step.sampled_at is None]

    with ThreadPoolExecutor(1, "tend") as pool:
        tending = pool.submit(tend)
        try:
            yield
        finally:
            done.set()
    tending.result()
