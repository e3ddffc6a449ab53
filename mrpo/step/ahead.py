"""The steps ahead, as a checkpoint has them. Rollouts that are complete are of older weights than its own, so that they
can't be sampled again: it holds them. Of a step that isn't complete, which only ``rollout.on_sync=continue`` has at
another step's end, it holds the plan and where in the data its prompts are, and all of them are sampled again.

::

    rollouts/<step>.npz      what the step knows: its plan, the data source of each prompt, and where its prompts begin
    rollouts/<step>-<i>.npz  its batches: tokens, log-probabilities, scores and whatever else a row has
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mrpo.budget.stats import PromptStats
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state, save_state
from mrpo.step.budget import BatchPlan
from mrpo.step.parts import Step
from mrpo.step.seam import Batch, Seam


class Remembered(NamedTuple):
    """A step under way, as it was when another ended."""

    state: dict[str, Any]
    batches: list[Batch]
    """All of its mini-batches, or none."""


def remember(after: int, under_way: dict[int, Step], mini_batches: int) -> dict[int, Remembered]:
    """The steps under way at the end of step ``after``, whatever becomes of them.

    Raises:
        RuntimeError: there is a step that is trained on, or isn't complete and can't be sampled again.
    """
    for number, step in under_way.items():
        again = step.began_at is not None and not step.ready
        if number <= after or not (len(step.ready) == mini_batches or again) or step.batches:
            raise RuntimeError(
                f"the checkpoint of step {after} can't hold step {number}, of whose {mini_batches} mini-batches "
                f"{len(step.ready)} are complete and {len(step.batches)} trained on"
            )
    return {number: Remembered(_state(step), list(step.ready)) for number, step in under_way.items()}


def save(folder: Path, remembered: dict[int, Remembered], seam: Seam) -> None:
    """Write what ``remember`` has given."""
    if remembered:
        folder.mkdir(parents=True)
    for number, step in remembered.items():
        save_state(folder / f"{number}.npz", step.state)
        for i, batch in enumerate(step.batches):
            seam.store(batch, folder / f"{number}-{i}.npz")


def load(folder: Path, seam: Seam) -> dict[int, Step]:
    """The steps that ``save`` wrote; none if there is no such folder. Those that aren't ``ready`` are to be sampled
    again (``sampling.resubmit``).

    Raises:
        CheckpointError: a file isn't what ``save`` wrote, or the run had another number of mini-batches.
    """
    found: dict[int, Step] = {}
    for file in sorted(folder.glob("*.npz")):
        name, _, batch = file.stem.partition("-")
        if not batch:
            found[int(name)] = _step(int(name), load_state(file))
    for number, step in found.items():
        if step.began_at is not None:
            continue
        files = [folder / f"{number}-{i}.npz" for i in range(seam.mini_batches)]
        if len(list(folder.glob(f"{number}-*.npz"))) != len(files):
            raise CheckpointError(f"{folder}: step {number} has not {len(files)} mini-batches, as this run has")
        step.ready = [seam.restore(file) for file in files]
    return dict(sorted(found.items()))


def _state(step: Step) -> dict[str, Any]:
    uids, plan = list(step.plan.stats), step.plan
    stats = PromptStats.concatenate([plan.stats[uid] for uid in uids])
    return {
        "began_at": None if step.ready else step.began_at,
        "source_of": dict(step.source_of),
        "n_by_uid": dict(plan.n_by_uid),
        "observed": sorted(plan.observed),
        "submitted": plan.submitted,
        "uids": uids,
        "stats": vars(stats),
    }


def _step(number: int, state: dict[str, Any]) -> Step:
    stats = PromptStats(**state["stats"])
    plan = BatchPlan(
        n_by_uid=state["n_by_uid"],
        stats={uid: stats.take([i]) for i, uid in enumerate(state["uids"])},
        observed=set(state["observed"]),
        submitted=state["submitted"],
    )
    return Step(number, plan, state.get("began_at"), source_of=state["source_of"])
