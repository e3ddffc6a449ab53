"""What ``mrpo evaluate`` does. It is loaded when the command runs, so that help and completion needn't wait for it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mrpo.cli._app import show_notes
from mrpo.cli._evaluation_table import show
from mrpo.config.checked_run import CheckedRun
from mrpo.config.overrides import take
from mrpo.driver.interruption import Interruption
from mrpo.driver.machine import require_machine
from mrpo.errors import ConfigError, MrpoError
from mrpo.evaluation.compare import compare
from mrpo.evaluation.targets import Step, Target, groups, of_model, require_distinct, resolve, run_of, slug
from mrpo.exit_code import ExitCode
from mrpo.observe.live import LiveDisplay
from mrpo.record.run_folder import RunFolder

IS_OVERRIDE = re.compile(r"~|\+{0,2}[A-Za-z_][\w.@/]*=")
"""What a word begins with that is an override and no target."""


def evaluate(words: list[str] | None, json_file: Path | None, trust: bool) -> ExitCode:
    """Parameters are those of the command."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise ConfigError(f"--json: given {json_file}, allowed: a file in a folder that exists.")
    given, overrides = split(words or [])
    settings, rest = take(overrides, "recipe", "step")
    step = _step(settings.get("step"))
    checked, home = _setting(given, settings.get("recipe"), rest)
    if home is not None and not trust:
        home.require_own()
    targets = _targets(given, step, checked, home)
    require_machine(checked.config)
    show_notes([*checked.notes, *_notes(targets)])
    folder = _folder(checked, home, targets)
    console = Console()
    console.print(f"evaluation folder: {folder.path}", highlight=False)
    interruption = Interruption(checked.config.interrupt.grace)
    with folder.claim(), interruption, LiveDisplay(folder, console) as display:
        display.skip_history()
        from mrpo.driver import evaluate as driver  # these import Ray, which a refused config doesn't wait for
        from mrpo.driver.prepare import prepare

        if home is None:
            prepare(checked, folder, display.poll)
        rollouts = driver.evaluate(checked, targets, folder, interruption, display.poll)
    if rollouts is None:
        raise MrpoError(f"stopped: {folder.events()[-1]['detail']}; what was done is in {folder.validation_rollouts}")
    ranges = {name: reward.range for name, reward in checked.config.rewards.items()}
    lines = compare(rollouts, ranges, checked.config.data.max_response_length, checked.config.seed)
    content = _content(checked, targets, folder) | {"lines": [line.as_json() for line in lines]}
    for file in filter(None, (folder.path / "evaluation.json", json_file)):
        file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(console, lines)
    return ExitCode.DONE


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Targets and overrides.

    >>> split(["latest", "step=3", "owner/model", "~rewards.short"])
    (['latest', 'owner/model'], ['step=3', '~rewards.short'])
    """
    overrides = [word for word in words if IS_OVERRIDE.match(word)]
    return [word for word in words if word not in overrides], overrides


def _step(given: Any) -> Step | None:
    if given is None or given in ("last", "best") or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    raise ConfigError(f"step: given {given!r}, allowed: the number of a checkpoint's step, last or best.")


def _setting(given: Sequence[str], recipe: Any, overrides: list[str]) -> tuple[CheckedRun, RunFolder | None]:
    """Whose data and rewards: the recipe's, or those of the run that the first target is or is a part of."""
    if recipe is not None:
        return CheckedRun.load([f"recipe={recipe}", *overrides]), None
    if not given:
        raise ConfigError("target: none given. Allowed: a run, or recipe=NAME.")
    home = run_of(given[0])
    if home is None and (Path(given[0]).expanduser().exists() or "/" in given[0]):
        raise ConfigError(
            f"target: given {given[0]}, which belongs to no run. Allowed: a run before it, or recipe=NAME beside it, "
            "whose data and rewards it is evaluated by."
        )
    if home is None:
        RunFolder.find(given[0])  # says which runs there are
    assert home is not None
    return CheckedRun.load_saved(home.config, overrides), home


def _targets(given: Sequence[str], step: Step | None, checked: CheckedRun, home: RunFolder | None) -> list[Target]:
    """All that is to be evaluated, each checked."""
    if not given:
        return [of_model(checked.config.model.path, made=not checked.prepared.exists())]
    of_home = None if home is None else (home, checked.config)
    targets = [resolve(word, step, of_home) for word in given]
    require_distinct(targets)
    return targets


def _notes(targets: Sequence[Target]) -> list[str]:
    first, *others = groups(targets)
    return [
        f"{', '.join(target.name for target in group)}: another architecture or tokenizer than {first[0].name}, so it "
        "needs a start of its own, and its response lengths are in its own tokens"
        for group in others
    ]


def _folder(checked: CheckedRun, home: RunFolder | None, targets: Sequence[Target]) -> RunFolder:
    if home is None:
        return RunFolder.create(checked.recipe.name, checked.config.as_yaml(), "evaluations")
    folder = RunFolder(home.path / "evaluations" / "-vs-".join(slug(target.name) for target in targets)[:150])
    for part in (folder.rollouts, folder.logs):
        part.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(checked.config.as_yaml(), encoding="utf-8")
    return folder


def _content(checked: CheckedRun, targets: Sequence[Target], folder: RunFolder) -> dict[str, Any]:
    """What was evaluated, and how; of each target also verl's own metrics of its validation."""
    metrics = {record["step"]: record for record in folder.metrics()}
    models = [
        {
            "name": target.name,
            "model": target.model,
            "checkpoint": None if target.checkpoint is None else str(target.checkpoint),
            "step": target.step,
            "validation": {k: v for k, v in metrics[n].items() if k.startswith("validation/")},
        }
        for n, target in enumerate(targets, 1)
    ]
    config = checked.config
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "seeds_of_step": targets[0].step,
        "sampling": config.rollout.val_kwargs.model_dump(),
        "max_response_length": config.data.max_response_length,
        "models": models,
    }
