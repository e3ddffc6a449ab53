"""What ``mrpo plan`` does. It is loaded when the command runs, so that help and completion needn't wait for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from mrpo.cli._table import table
from mrpo.config.checked_run import CheckedRun
from mrpo.config.data_files import is_there
from mrpo.config.device import device_on
from mrpo.config.flatten import flatten
from mrpo.config.load import load_saved_config
from mrpo.config.model_files import find_model_file
from mrpo.config.model_size import ModelShape, Quantity, UnknownSize, read_shape
from mrpo.config.plan import GIB, Plan, Sizes, make_plan
from mrpo.config.positions import UnknownLength, policy_positions
from mrpo.config.run import RunConfig
from mrpo.config.step_time import MEASURED_FROM, Speeds, measured, step_times
from mrpo.data.cached import job_of, make_rows
from mrpo.data.check import Report
from mrpo.data.sources import applicable, require_rewards, source_counts
from mrpo.errors import ConfigError, MrpoError
from mrpo.exit_code import ExitCode
from mrpo.launch.cluster_file import load_any_cluster, take_cluster
from mrpo.record.jsonl import CorruptLineError
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder


def plan(overrides: list[str] | None, full: bool, like: str | None, tokens_per_second: str | None) -> ExitCode:
    """Parameters are those of the command."""
    file, settings = take_cluster(overrides)
    groups = load_any_cluster(file).groups if file is not None else None
    run = CheckedRun.load(settings, lambda config: device_on(config, groups))
    config = run.config
    checked, sizes, timed = read_rows(run), read_sizes(config), seconds_per_step(run.recipe.name)
    speeds = speeds_of(like, tokens_per_second)
    report = checked if isinstance(checked, Report) else None
    prompts = sum(file.rows for file in report.files if file.field.startswith("data.train")) if report else None
    kv_space = float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"))
    planned = make_plan(config, sizes, prompts, run.device, groups, timed[0] if timed else None, kv_space)
    planned.batch["tokens of a rollout, most"] = longest_rollout(config)
    planned.problems += [checked] if isinstance(checked, str) and checked else []
    planned.notes += list(_notes(run, timed))
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    if full:
        print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")
    else:
        changed = config.model_dump(mode="json", exclude_defaults=True)
        if "algorithm" in changed:  # another estimator with its own defaults is a change, too
            changed["algorithm"] = {"estimator": config.algorithm.estimator, **changed["algorithm"]}
        rows = ((name, str(value)) for name, value in flatten(changed))
        console.print("", table("Settings that aren't defaults", (), rows))
    show(console, config, planned, report, sizes)
    if speeds is not None:
        console.print("", table("Seconds of a step", (), _quantities(step_times(config, speeds))))
    return ExitCode.FAILED if planned.problems else ExitCode.DONE


def read_rows(run: CheckedRun, **changes: object) -> Report | str:
    """What becomes of the data files' rows; why they can't be used; or an empty text if they aren't all there yet.

    Args:
        changes: fields of the job of reading them that differ.
    """
    config = run.config
    if not all(map(is_there, (*config.data.train_files, *config.data.val_files))):
        return ""
    job = job_of(config, run.verl_config(Path("run"))).model_copy(update=changes)
    if find_model_file(str(job.tokenizer), "tokenizer_config.json") is None:
        job = job.model_copy(update={"tokenizer": None})
    try:
        report = make_rows(job)[1]
        require_rewards(config, report)
        return report
    except MrpoError as error:
        return str(error)


def read_sizes(config: RunConfig) -> dict[str, ModelShape | str]:
    """Shapes of the policy and the reward models by path, or why one isn't known."""
    found: dict[str, ModelShape | str] = {}
    for path in [config.model.path, *(reward.model.path for reward in config.rewards.values() if reward.model)]:
        try:
            found[path] = read_shape(path)
        except UnknownSize as error:
            found[path] = str(error)
    return found


def longest_rollout(config: RunConfig) -> Quantity:
    prompt, response = config.data.max_prompt_length, config.data.max_response_length
    try:
        known = f"the model takes {policy_positions(config):,}"
    except UnknownLength as error:
        known = f"how many the model takes is unknown: {error}"
    return Quantity(prompt + response, f"{prompt} + {response}; {known}")


def seconds_per_step(recipe: str) -> tuple[float, Path] | None:
    """What a step took, on average, in the latest run here, if that was a run of this recipe."""
    try:
        folder = RunFolder.find()
        content = yaml.safe_load(folder.config.read_text())
        lines = folder.metrics()
    except (ConfigError, CorruptLineError, OSError, yaml.YAMLError):
        return None
    if len(lines) < 2 or not isinstance(content, dict) or content.get("recipe") != recipe:
        return None
    first, last = lines[0], lines[-1]
    return (last["time"] - first["time"]) / (last["step"] - first["step"]), folder.path


def speeds_of(like: str | None, tokens_per_second: str | None) -> Speeds | None:
    """What a run has reached, or what is given; None if neither is asked for.

    Raises:
        ConfigError: both are asked for, the run can't tell, or the numbers aren't two above 0.
    """
    if like is not None and tokens_per_second is not None:
        raise ConfigError("--tokens-per-second: given beside --like, allowed: one of them.")
    if like is not None:
        folder = RunFolder.find(None if like == "latest" else like)
        speeds = measured(load_saved_config(folder.config, []), folder.metrics())
        if speeds is None:
            raise ConfigError(
                f"--like: {folder.path} doesn't tell how fast it was. Allowed: a run with rollout.placement=separate "
                f"and more than {MEASURED_FROM} steps whose metrics have time/engine_idle."
            )
        return speeds
    if tokens_per_second is None:
        return None
    numbers = dict(part.partition("=")[::2] for part in tokens_per_second.split(","))
    try:
        speeds = Speeds(**{name.strip(): float(number) for name, number in numbers.items()})
        if numbers.keys() == {"rollout", "train"} and min(speeds[:2]) > 0 and max(speeds[:2]) < float("inf"):
            return speeds
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"--tokens-per-second: given {tokens_per_second!r}, allowed: rollout=A,train=B, numbers above 0.")


def seconds_of_export(folder: RunFolder) -> float | None:
    """What it took to write the model at the end of a run; None if it has none, or didn't get there."""
    began = None
    for event in folder.events() if folder.events_file.exists() else []:
        if event["phase"] == Phase.DONE and began is not None:
            return event["time"] - began
        # events of one export follow each other, as it gets on
        began = (began or event["time"]) if event["phase"] == Phase.EXPORT else None
    return None


def _notes(run: CheckedRun, timed: tuple[float, Path] | None) -> Iterator[str]:
    yield from run.notes
    config = run.config
    if config.prepare is not None and not run.prepared.exists():
        yield f"{config.prepare} has not run yet; the run begins with it, and plan knows more afterwards"
    if config.verl:
        yield f"not counted here, whatever it changes: {', '.join(f'verl.{key}' for key, _ in flatten(config.verl))}"
    if timed is not None:
        yield f"a step took {timed[0]:.3g} s in {timed[1]}"
        if config.trainer.export != "none" and (seconds := seconds_of_export(RunFolder(timed[1]))) is not None:
            yield f"writing the model at the end took {seconds:.3g} s there"


def show(console: Console, config: RunConfig, plan: Plan, report: Report | None, sizes: Sizes) -> None:
    """Print all but the settings. Problems come last, where a reader of a long output looks."""
    counts = {p: Quantity(None, f"unknown: {s}") if isinstance(s, str) else s.parameters for p, s in sizes.items()}
    if plan.adapter is not None:
        counts["adapter, which is all that is trained"] = plan.adapter
    total = sum(actors.number * actors.devices for actors in plan.actors)
    largest = max(node.devices for node in plan.nodes)
    actors = f"Actors: {total} {plan.device.upper()} devices, at most {largest} on a node"
    for drawn in (
        table("Data", ("field", "rows", "tokens of a prompt", "file"), _data(config, report), text_columns=4),
        *_sources(config, report),
        table("Rewards", ("reward", "function", "weight", "options and more"), _rewards(config), text_columns=4),
        table(actors, ("actor", "number", "devices each", "where"), plan.actors, text_columns=4),
        table("Nodes", ("node", "devices", "CPUs for Ray", "holds"), _nodes(plan), text_columns=4),
        table("Batches", (), _quantities(plan.batch)),
        table("Parameters", (), _quantities(counts)),
        *(table(f"Memory of {part}", (), _quantities(quantities)) for part, quantities in plan.memory.items()),
        table("Checkpoints", (), _quantities(plan.checkpoints)),
    ):
        console.print("", drawn)
    for number, prompt in enumerate(report.files[0].prompts if report else (), 1):
        console.print(f"\nprompt {number}, as the model sees it:\n{prompt}", soft_wrap=True)
    for note in plan.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for problem in plan.problems:
        console.print(f"problem: {problem}", style="red", soft_wrap=True)


def _sources(config: RunConfig, report: Report | None) -> Iterator[Table]:
    """A table of the data sources and the rewards of each, where there are several."""
    if report is None or len(everywhere := source_counts(report)) < 2:
        return
    trained, validated = source_counts(report, "data.train_files"), source_counts(report, "data.val_files")
    rows = (
        (source, ", ".join(applicable(config.rewards, source)), f"{trained[source]:,}", f"{validated[source]:,}")
        for source in everywhere
    )
    headings = ("data source", "rewards", "training rows", "validation rows")
    yield table("Data sources", headings, rows, text_columns=2)


def _data(config: RunConfig, report: Report | None) -> Iterator[tuple[str, str, str, str]]:
    if report is None:
        for kind in ("train_files", "val_files"):
            for i, file in enumerate(getattr(config.data, kind)):
                yield f"data.{kind}[{i}]", "not read", "", file
        return
    for of_file in report.files:
        rows = f"{of_file.rows:,} rows"
        rows += f", {of_file.dropped:,} dropped" if of_file.dropped else ""
        rows += f", {of_file.truncated:,} to be cut" if of_file.truncated else ""
        lengths = "not counted (no tokenizer here)"
        if (of := of_file.lengths) is not None:
            lengths = f"{of.min:g} to {of.max:g}, median {of.median:g}, p99 {of.p99:g}"
        yield of_file.field, rows, lengths, of_file.path


def _rewards(config: RunConfig) -> Iterator[tuple[object, ...]]:
    for name, reward in config.rewards.items():
        conditions = {f"requires {other}": minimum for other, minimum in reward.requires.items()}
        model = {"model": reward.model.path} if reward.model else {}
        sources = {"sources": " ".join(reward.sources)} if reward.sources else {}
        scope = {"scope": reward.scope} if reward.scope == "group" else {}
        shown = {**scope, **reward.options, **reward.scheduled_options, **conditions, **model, **sources}
        yield name, reward.function, f"{reward.weight}", ", ".join(f"{key}={value}" for key, value in shown.items())


def _nodes(plan: Plan) -> Iterator[tuple[object, ...]]:
    alike = len({node.group for node in plan.nodes}) == 1
    for i, node in enumerate(plan.nodes, 1):
        holds = (what if number == 1 else f"{number} × {what}" for what, number in node.holds.items())
        yield f"node {i}" if alike else f"{node.group} node {i}", node.devices, node.cpus, ", ".join(holds)


def _quantities(quantities: Mapping[str, Quantity]) -> Iterator[tuple[str, str, str]]:
    for name, quantity in quantities.items():
        shown = "?" if quantity.value is None else f"{quantity.value:,.10g}"
        if quantity.value is not None and quantity.unit == "B":
            in_gib = quantity.value >= GIB
            shown = f"{quantity.value / GIB:.1f} GiB" if in_gib else f"{quantity.value / GIB * 1024:.1f} MiB"
        yield name, shown, quantity.formula
