"""Try a recipe's rewards on responses that there are, or list the library's."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from mrpo.cli._app import Changes, examples, new_app, show_notes
from mrpo.cli._responses import Row, count_tokens, open_tags, read_rows
from mrpo.cli._reward_table import Scored, failures_above, show
from mrpo.cli._table import table
from mrpo.config.check import check_rewards, reward_notes
from mrpo.config.load import load_run_config
from mrpo.config.overrides import override
from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError, MrpoError, usable
from mrpo.exit_code import ExitCode
from mrpo.record import jsonl
from mrpo.registry import module_names
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer, calls_of
from mrpo.rewards.source import LIBRARY

app = new_app(help=__doc__)


@app.command(
    epilog=examples(
        "mrpo rewards check runs/latest/rollouts/5.jsonl --recipe quickstart",
        "mrpo rewards check responses.parquet --recipe mine rewards.correct.timeout=5",
    )
)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines or parquet.")],
    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME", help="The recipe whose rewards are tried.")],
    changes: Changes = None,
    max_failure_rate: Annotated[
        float, typer.Option("--max-failure-rate", min=0, max=1, help="If a reward fails in more rows, exit with 1.")
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Where the rows go, with their scores.")
    ] = None,
) -> ExitCode:
    """Show what a recipe's rewards make of a file of responses.

    A row of FILE has prompt, response (or responses), ground_truth (or reward_model.ground_truth), and if there are
    any extra_info, data_source, response_tokens; the rollouts of a run are such rows. Rows with one uid, or without it
    with one prompt, are a group. The exit code is 1 if a reward failed in too many rows, 2 if the input is wrong and
    nothing was scored. What reward functions print is in files that are named at the end.
    """
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(f"--out: given {out}, allowed: a file in a folder that exists.")
    config, found = load_run_config([override("recipe", recipe), *(changes or [])])
    check_rewards(config, found.folder)
    for name, reward in config.rewards.items():
        if reward.model is not None and "url" not in reward.options:
            raise ConfigError(
                f"rewards.{name}.model: only a run serves models. Allowed here: rewards.{name}.options.url of a server "
                f"that runs, and rewards.{name}.options.model."
            )
    show_notes(reward_notes(config, here=True))
    rows, counted = count_tokens(list(read_rows(file)), config)
    rows, rendered = open_tags(rows, config)
    logs = Path(tempfile.mkdtemp(prefix="mrpo-rewards-"))
    try:
        scored = asyncio.run(score(rows, config.rewards, found.folder, logs))
    except BaseException:
        shutil.rmtree(logs, ignore_errors=True)
        raise
    printed = _printed(logs)
    if out is not None:
        with usable("--out", out):
            jsonl.replace(out, records(rows, scored))
    console = Console()
    show(console, scored, [row.group for row in rows], [row.place for row in rows])
    for line in (counted, rendered, *printed, f"rows with their scores: {out}" if out is not None else ""):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if too_many := failures_above(max_failure_rate, scored):
        raise MrpoError("\n".join(too_many))
    return ExitCode.DONE


@app.command("list", epilog=examples("mrpo rewards list"))
def list_library() -> ExitCode:
    """List the rewards of the library with their options."""
    headings = ("name", "range", "what", "options")
    Console().print(table("function: NAME", headings, _library(), text_columns=4))
    return ExitCode.DONE


async def score(
    rows: list[Row], rewards: Mapping[str, RewardConfig], folder: Path, logs: Path | None = None
) -> dict[str, Scored]:
    """Every row by every reward, no more at once than its processes take, so that the times are those of a score; a
    reward of scope group all rows of a group at once, and then the time is that of the group.

    What reward functions print goes into files in ``logs``; by default to standard error.
    """
    scorers = {names: Scorer({name: rewards[name] for name in names}, folder, logs=logs) for names in calls_of(rewards)}
    scored = {name: Scored(reward) for name, reward in rewards.items()}
    errors = await asyncio.gather(*(scorer.start() for scorer in scorers.values()), return_exceptions=True)
    progress = Console(stderr=True)
    groups = [list(group) for group in _groups(rows)]
    of_groups = {names: scorer for names, scorer in scorers.items() if rewards[names[0]].scope == "group"}

    async def run(names: tuple[str, ...], bar: Progress) -> None:
        task = bar.add_task(", ".join(names), total=len(rows))
        loaded = scorers[names].pools[names].processes[0].loaded
        each = 1 if loaded is None else loaded["concurrency"]
        results: list[tuple[dict[str, Outcome], float] | None] = [None] * len(rows)
        left = iter(groups if names in of_groups else [[n] for n in range(len(rows))])

        async def lane() -> None:
            for numbers in left:
                row, start = rows[numbers[0]], time.perf_counter()
                if names in of_groups:
                    extras = [rows[n].extra for n in numbers]
                    known = [{name: one.outcomes[n] for name, one in alone.items()} for n in numbers]
                    texts = [rows[n].response for n in numbers]
                    found = await scorers[names].score_group(row.prompt, texts, row.ground_truth, extras, known)
                else:
                    found = [await scorers[names].score(row.prompt, row.response, row.ground_truth, row.extra)]
                for n, outcomes in zip(numbers, found, strict=True):
                    results[n] = (outcomes, time.perf_counter() - start)
                    bar.advance(task)

        await asyncio.gather(*(lane() for _ in range(each * rewards[names[0]].processes)))
        for name in names:
            results_of_one = [(result[0][name], result[1]) for result in results if result is not None]
            scored[name] = replace(scored[name], results=results_of_one)

    try:
        if wrong := [str(error) for error in errors if error is not None]:
            raise ConfigError("\n".join(wrong))
        with Progress(console=progress, transient=True, disable=not progress.is_terminal) as bar:
            await asyncio.gather(*(run(names, bar) for names in scorers if names not in of_groups))
            alone = {name: scored[name] for names in scorers if names not in of_groups for name in names}
            await asyncio.gather(*(run(names, bar) for names in of_groups))
    finally:
        await asyncio.gather(*(scorer.close() for scorer in scorers.values()))
    return scored


def _groups(rows: Sequence[Row]) -> list[list[int]]:
    """The numbers of the rows that answer the same prompt."""
    found: dict[str, list[int]] = {}
    for n, row in enumerate(rows):
        found.setdefault(row.group, []).append(n)
    return list(found.values())


def records(rows: list[Row], scored: Mapping[str, Scored]) -> Iterator[dict[str, Any]]:
    """The rows as a run writes its rollouts, so that ``mrpo audit`` reads them."""
    numbers = {group: n for n, group in enumerate(dict.fromkeys(row.group for row in rows))}
    for n, row in enumerate(rows):
        outcomes = {name: one.outcomes[n] for name, one in scored.items()}
        yield {
            "row": row.place,
            "uid": str(numbers[row.group]),
            "prompt": row.prompt,
            "response": row.response,
            "ground_truth": row.ground_truth,
            "rewards": {name: outcome.score for name, outcome in outcomes.items()},
            "failures": {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure is not None},
            "details": {name: json.loads(outcome.details) for name, outcome in outcomes.items() if outcome.details},
            "tokens": row.extra["response_tokens"],
        }


def _printed(logs: Path) -> list[str]:
    """Where to read what reward functions have printed, a line for each that has; without any, nothing is left."""
    found = []
    for log in sorted(logs.iterdir()):
        if log.stat().st_size:
            found.append(f"printed by {log.name.partition('.')[0].replace('+', ', ')}: {log}")
        else:
            log.unlink()
    if not found:
        logs.rmdir()
    return found


def _library() -> Iterator[tuple[str, str, str, str]]:
    for name in module_names(LIBRARY):
        module = importlib.import_module(f"{LIBRARY}.{name}")
        target = getattr(module, name)
        parameters = inspect.signature(target).parameters.values()
        given_by_us = ("prompt", "response", "responses", "ground_truth", "extra", "extras")
        options = [_option(parameter) for parameter in parameters if parameter.name not in given_by_us]
        span = "[{:g}, {:g}]".format(*module.bounds()) if hasattr(module, "bounds") else "any"
        yield name, span, (module.__doc__ or "").splitlines()[0], "\n".join(options)


def _option(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return f"{parameter.name} (required)"
    shown = repr(parameter.default)
    return f"{parameter.name} = {shown if len(shown) <= 20 else '…'}"
