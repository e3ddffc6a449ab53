"""The steps ahead, as a checkpoint has them: their rollouts are of older weights than its own, so that they can't be
sampled again.

::

    rollouts/<step>.npz      what the step knows: its plan, and the data source of each prompt
    rollouts/<step>-<i>.npz  its batches: tokens, log-probabilities, scores and whatever else a row has
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrpo.budget.stats import PromptStats
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state, save_state
from mrpo.step.budget import BatchPlan
from mrpo.step.parts import Step
from mrpo.step.seam import Seam


def save(folder: Path, after: int, under_way: dict[int, Step], seam: Seam) -> None:
    """Write the steps under way, all complete and none trained on, beside the weights of step ``after``.

    Raises:
        RuntimeError: there is a step that isn't complete, or isn't after ``after``.
    """
    for number, step in under_way.items():
        if number <= after or len(step.ready) != seam.mini_batches or step.batches:
            raise RuntimeError(
                f"the checkpoint of step {after} can't hold step {number}, of whose {seam.mini_batches} mini-batches "
                f"{len(step.ready)} are complete and {len(step.batches)} trained on"
            )
    if under_way:
        folder.mkdir(parents=True)
    for number, step in under_way.items():
        save_state(folder / f"{number}.npz", _state(step))
        for i, batch in enumerate(step.ready):
            seam.store(batch, folder / f"{number}-{i}.npz")


def load(folder: Path, seam: Seam) -> dict[int, Step]:
    """The steps that ``save`` wrote; none if there is no such folder.

    Raises:
        CheckpointError: a file isn't what ``save`` wrote, or the run had another number of mini-batches.
    """
    found: dict[int, Step] = {}
    for file in sorted(folder.glob("*.npz")):
        name, _, batch = file.stem.partition("-")
        if not batch:
            found[int(name)] = _step(int(name), load_state(file))
    for number, step in found.items():
        files = [folder / f"{number}-{i}.npz" for i in range(seam.mini_batches)]
        if len(list(folder.glob(f"{number}-*.npz"))) != len(files):
            raise CheckpointError(f"{folder}: step {number} has not {len(files)} mini-batches, as this run has")
        step.ready = [seam.restore(file) for file in files]
    return dict(sorted(found.items()))


def _state(step: Step) -> dict[str, Any]:
    uids, plan = list(step.plan.stats), step.plan
    stats = PromptStats.concatenate([plan.stats[uid] for uid in uids])
    return {
        "source_of": step.source_of,
        "n_by_uid": plan.n_by_uid,
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
    return Step(number, plan, source_of=state["source_of"])
