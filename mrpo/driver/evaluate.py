"""Validate several models, with as few starts of the stack as there are kinds of models among them.

This module runs in the command's own process, as ``supervise`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mrpo.config.checked_run import CheckedRun
from mrpo.config.controller import Attempt, Weights, begin
from mrpo.driver.attempt import run_attempt
from mrpo.driver.interruption import Interruption
from mrpo.evaluation.targets import Target, groups, slug
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder


def evaluate(
    run: CheckedRun,
    targets: Sequence[Target],
    folder: RunFolder,
    interruption: Interruption,
    poll: Callable[[], None],
) -> dict[str, list[Record]] | None:
    """The rollouts of the validation set by each target, under its name and in the targets' order.

    All are sampled with the seeds of the first one's step: so a checkpoint alone gives what the run's own validation
    gave, and several are compared on the same draws.

    Returns:
        None if ``interruption`` ended it before all were done.
    Raises:
        RunFailed: a start of the stack failed.
    """
    files = {target.name: f"{n}-{slug(target.name)}" for n, target in enumerate(targets, 1)}
    for group in groups(targets):
        weights = [
            Weights(
                name=files[target.name],
                number=targets.index(target) + 1,
                checkpoint=None if target.checkpoint is None else str(target.checkpoint),
                model=target.model if target.checkpoint is None and n > 0 else None,
            )
            for n, target in enumerate(group)
        ]
        model = run.config.model.model_copy(update={"path": group[0].model})
        of_group = replace(run, config=run.config.model_copy(update={"model": model}))
        verl = of_group.verl_config(folder.path.resolve())
        begin(verl, Attempt(start_step=targets[0].step, evaluate=weights))
        if run_attempt(of_group.config, verl, folder, interruption, poll) != Phase.DONE:
            return None
    return {name: folder.read_validation(file) for name, file in files.items()}
