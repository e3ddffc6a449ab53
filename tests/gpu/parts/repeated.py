"""A strict run, and the same run killed and gone on with: equal in every metric, rollout and byte saved."""

from __future__ import annotations

import time

from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from tests.faults.kill_resume import essence, first_difference, kill_tree
from tests.gpu.part import Context
from tests.gpu.runs import QUICK_START, STRICT, agreement, start, train, typed

STEPS, KILLED_IN = 6, 4


def overrides(context: Context) -> list[str]:
    return [*typed("bfloat16" if context.on_gpu else "float32"), *QUICK_START, *STRICT]


def strict(context: Context) -> None:
    """vLLM's batch invariance beside a GPU; what it comes to is compared by the next part."""
    folder = train(context, "strict", overrides(context))
    context.report.all(agreement(folder.metrics()))
    context.report.require(f"{STEPS} steps", len(folder.metrics()) == STEPS)


def resumed(context: Context) -> None:
    """SIGKILL to all of it in the middle of a step, and the same command again."""
    process, folder = start(context, "resumed", overrides(context)), RunFolder(context.run_dir("resumed"))
    while process.poll() is None and not _is_in(folder, Phase.UPDATE_ACTOR, KILLED_IN):
        time.sleep(0.05)
    context.report.require(f"it is killed in step {KILLED_IN}", process.poll() is None)
    kill_tree(process)
    train(context, "resumed", overrides(context))
    went_on = [str(event["detail"]) for event in folder.events() if event["phase"] == Phase.RESUME]
    context.report.figure("went on", "; ".join(went_on) or "no")
    context.report.require("it went on from a checkpoint", bool(went_on))
    undisturbed = RunFolder(context.run_dir("strict"))
    try:
        difference = first_difference(essence(undisturbed, STEPS), essence(folder, STEPS))
    except (SystemExit, OSError) as nothing_to_compare:
        difference = f"can't be compared: {nothing_to_compare}"
    context.report.figure("first difference from the undisturbed run", difference or "none")
    context.report.require("two runs are the same to the last bit", difference is None)


def _is_in(folder: RunFolder, phase: Phase, step: int) -> bool:
    events = folder.events() if folder.events_file.exists() else []
    return any((event["phase"], event["step"]) == (phase, step) for event in events)
