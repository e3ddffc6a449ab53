"""``mrpo plan recipe=NAME [cluster=FILE.yaml] [key=value …]``: check a recipe and show what its run would take."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console
from rich.table import Table

from mrpo.cli.train import device_of
from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.model_size import ModelShape, Quantity, UnknownSize, read_shape
from mrpo.config.placement import Groups
from mrpo.config.plan import GIB, Plan, Sizes, make_plan
from mrpo.config.run import RunConfig
from mrpo.config.verl import to_verl
from mrpo.errors import ConfigError
from mrpo.launch.cluster_file import load_any_cluster
from mrpo.record.jsonl import CorruptLineError
from mrpo.record.run_folder import RunFolder

USAGE = """usage: mrpo plan recipe=NAME [cluster=FILE.yaml] [key=value ...] [--full]

  mrpo plan recipe=quickstart cluster=slurm.yaml rollout.replicas=4 --full

slurm.yaml is the file that mrpo launch takes, for SLURM or for Kubernetes. --full shows the whole configuration.
"""
COLUMNS = ("data_source", "prompt", "reward_model.ground_truth")
"""What verl reads of every row."""


class DataFile(NamedTuple):
    """A file of prompts. ``rows``: None where it isn't there yet or can't be read; ``problem``: what is wrong."""

    field: str
    path: str
    rows: int | None
    problem: str = ""


def main(argv: list[str]) -> int:
    """Exit codes: 0 nothing speaks against the run, 1 something does, 2 the configuration is wrong."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    given = [argument.partition("=")[2] for argument in argv if argument.startswith("cluster=")]
    config, recipe = load_run_config([a for a in argv if a != "--full" and not a.startswith("cluster=")])
    prepared = prepared_folder(recipe, config.prepare, config.seed)
    check_files(config, recipe, prepared)
    groups = load_any_cluster(given[-1]).groups if given else None
    device = planned_device(config, groups)
    to_verl(config, recipe.folder, Path("run"), {"cpu": "cpu", "gpu": "cuda"}[device])  # refuses what verl would
    files, sizes, timed = list(read_files(config)), read_sizes(config), seconds_per_step(recipe.name)
    counts = [file.rows for file in files if file.field.startswith("data.train")]
    rows = None if None in counts else sum(count or 0 for count in counts)
    kv_space = float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"))
    plan = make_plan(config, sizes, rows, device, groups, timed[0] if timed else None, kv_space)
    plan.problems += [f"{file.field}: {file.path} {file.problem}" for file in files if file.problem]
    plan.notes += list(_notes(config, prepared, timed))
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, markup=False)
    if "--full" in argv:
        print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")
    else:
        settings = _flat(config.model_dump(mode="json", exclude_defaults=True))
        _print(console, "Settings that aren't defaults", (), settings)
    show(console, config, plan, files, sizes)
    return int(bool(plan.problems))


def planned_device(config: RunConfig, groups: Groups | None) -> str:
    """cpu or gpu: what the config says, else what the cluster has, else what this machine has."""
    if config.trainer.device != "auto":
        return config.trainer.device
    if groups is not None:
        return "gpu" if groups["trainer"].gpus_per_node else "cpu"
    return {"cpu": "cpu", "cuda": "gpu"}[device_of(config)]


def read_files(config: RunConfig) -> Iterator[DataFile]:
    """Rows and columns of the data files, from their footers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for kind in ("train_files", "val_files"):
        for i, path in enumerate(getattr(config.data, kind)):
            file, rows, problem = Path(path).expanduser(), None, ""
            try:
                if file.exists():
                    footer = pq.ParquetFile(file)
                    missing = [column for column in COLUMNS if not _has(footer.schema_arrow, column)]
                    rows, problem = footer.metadata.num_rows, f"lacks {', '.join(missing)}" if missing else ""
            except (pa.ArrowException, OSError) as error:
                problem = f"is no parquet file: {str(error).splitlines()[0]}"
            yield DataFile(f"data.{kind}[{i}]", path, rows, problem)


def _has(schema: Any, column: str) -> bool:
    outer, _, inner = column.partition(".")
    kind = schema.field(outer).type if outer in schema.names else None
    return kind is not None and (not inner or inner in {kind.field(i).name for i in range(kind.num_fields)})


def read_sizes(config: RunConfig) -> dict[str, ModelShape | str]:
    """Shapes of the policy and the reward models by path, or why one isn't known."""
    found: dict[str, ModelShape | str] = {}
    for path in [config.model.path, *(reward.model.path for reward in config.rewards.values() if reward.model)]:
        try:
            found[path] = read_shape(path)
        except UnknownSize as error:
            found[path] = str(error)
    return found


def seconds_per_step(recipe: str) -> tuple[float, Path] | None:
    """What a step took, on average, in the latest run here, if that was a run of this recipe."""
    try:
        folder = RunFolder.find()
        content = yaml.safe_load(folder.config.read_text())
        times = [record["time"] for record in folder.metrics()]
    except (ConfigError, CorruptLineError, OSError, yaml.YAMLError):
        return None
    if len(times) < 2 or not isinstance(content, dict) or content.get("recipe") != recipe:
        return None
    return (times[-1] - times[0]) / (len(times) - 1), folder.path


def _notes(config: RunConfig, prepared: Path, timed: tuple[float, Path] | None) -> Iterator[str]:
    if config.prepare is not None and not prepared.exists():
        yield f"{config.prepare} has not run yet; the run begins with it, and plan knows more afterwards"
    if config.verl:
        yield f"not counted here, whatever it changes: {', '.join(f'verl.{key}' for key, _ in _flat(config.verl))}"
    if timed is not None:
        yield f"a step took {timed[0]:.3g} s in {timed[1]}"


def show(console: Console, config: RunConfig, plan: Plan, files: list[DataFile], sizes: Sizes) -> None:
    """Print all but the settings. Problems come last, where a reader of a long output looks."""
    data = ((f.field, f.path, f.problem or (f"{f.rows:,} rows" if f.rows is not None else "not yet")) for f in files)
    _print(console, "Data", (), data)
    _print(console, "Rewards", ("", "function", "weight", "options, conditions, model"), _rewards(config))
    total = sum(actors.number * actors.devices for actors in plan.actors)
    most = max(node.devices for node in plan.nodes)
    title = f"Actors: {total} {plan.device.upper()} devices, at most {most} on a node"
    _print(console, title, ("", "number", "devices each", "where"), plan.actors)
    _print(console, "Nodes", ("", "devices", "CPUs for Ray", "holds"), _nodes(plan))
    _print(console, "Batches", (), _quantities(plan.batch))
    counts = {p: Quantity(None, f"unknown: {s}") if isinstance(s, str) else s.parameters for p, s in sizes.items()}
    _print(console, "Parameters", (), _quantities(counts))
    for title, quantities in plan.memory.items():
        _print(console, f"Memory of {title}", (), _quantities(quantities))
    _print(console, "Checkpoints", (), _quantities(plan.checkpoints))
    for note in plan.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for problem in plan.problems:
        console.print(f"problem: {problem}", style="red", soft_wrap=True)


def _print(console: Console, title: str, headings: tuple[str, ...], rows: Iterable[Iterable[object]]) -> None:
    table = Table(
        *headings, title=title, title_justify="left", title_style="bold", box=None, show_header=bool(headings)
    )
    for row in rows:
        table.add_row(*map(str, row))
    console.print("", table)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _rewards(config: RunConfig) -> Iterator[tuple[object, ...]]:
    for name, reward in config.rewards.items():
        model = {"model": reward.model.path} if reward.model else {}
        said = {**reward.options, **{f"requires {other}": least for other, least in reward.requires.items()}, **model}
        yield name, reward.function, reward.weight, ", ".join(f"{key}={value}" for key, value in said.items())


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
