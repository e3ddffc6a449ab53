"""Make a recipe of your own rows and rewards: a folder that mrpo plan and mrpo train take.

The columns of prompts and ground truths are found by their names, some rows are held out for validation unless there is
a file of them, and the longest prompt decides the limit. On a terminal it asks for what isn't given. The recipe is
checked as mrpo plan does it before it is left; every line of its config.yaml is there to be changed.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from mrpo.cli._app import examples, new_app
from mrpo.cli._plan import read_rows
from mrpo.config.checked_run import CheckedRun
from mrpo.config.new_recipe import REWARDS, NewRecipe
from mrpo.config.overrides import override, parse
from mrpo.config.positions import UnknownLength, model_positions
from mrpo.config.recipes import require_new
from mrpo.data.check import Report
from mrpo.data.columns import guess_columns, require_columns
from mrpo.data.files import Record, read_records
from mrpo.errors import ConfigError, usable
from mrpo.exit_code import ExitCode
from mrpo.record import jsonl
from mrpo.registry import module_names
from mrpo.rewards.source import LIBRARY

app = new_app()

HELD_OUT = 64
"""Validation prompts that are taken from the training file, at most, and at most a tenth of it."""


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo init recipes/gsm --data gsm8k.jsonl --model Qwen/Qwen2.5-0.5B-Instruct --reward correct=math",
        "mrpo init recipes/mine --data train.parquet --validation test.parquet --model ./model "
        "--reward ok=rewards.py:ok --reward 'short={function: length, options: {kind: cap, cap: 200}}'",
    ),
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new recipe.")],
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="Training rows: parquet, .jsonl or .json.")] = None,
    validation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Validation rows. Default: some are held out.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="A folder, or OWNER/NAME on the hub.")] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FUNCTION", help="A reward: of the library, FILE.py:NAME, or its settings in {…}."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of prompts.")] = None,
    ground_truth: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that rewards compare with.")
    ] = None,
) -> ExitCode:
    folder = require_new(folder)
    file = Path(data if data is not None else _ask("--data", "File of training rows")).expanduser().resolve()
    first = _first(file)
    given = {name: column for name, column in (("prompt", prompt), ("ground_truth", ground_truth)) if column}
    require_columns(given, first[0])
    columns = given if len(given) == 2 else {**_columns(first), **given}
    chosen = model if model is not None else _ask("--model", "Model: a folder, or a name on the hub")
    if Path(chosen).expanduser().exists():
        chosen = str(Path(chosen).expanduser().resolve())
    rewards = dict(_reward(text) for text in (reward if reward is not None else _ask_for_rewards()))
    made_folder = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not rewards:
            (folder / "rewards.py").write_text(REWARDS.format(recipe=folder), encoding="utf-8")
            rewards = {"correct": {"function": "rewards.py:correct", "range": [0, 1]}}
        held_out = validation.expanduser().resolve() if validation else file
        recipe = NewRecipe(folder, chosen, file, held_out, columns, rewards)
        positions = _positions(chosen)
        if validation is None:
            _check(recipe.within(positions))  # first, as what is wrong with a row is said of the row of this file
            train, held_out = hold_out(file, folder, columns.get("prompt", "prompt"))
            recipe = replace(recipe, train_file=train, val_file=held_out)
        report = _check(recipe.within(positions))
        recipe = _fitted(recipe, report).within(positions)
        (folder / "config.yaml").write_text(recipe.config(), encoding="utf-8")
        _load(recipe)
    except BaseException:
        for path in folder.iterdir():
            path.unlink()
        if made_folder:
            folder.rmdir()
        raise
    _say(recipe, report)
    return ExitCode.DONE


def hold_out(file: Path, folder: Path, column: str) -> tuple[Path, Path]:
    """Divide a file into training and validation rows, by chance but always the same, in ``folder``. All rows of a
    prompt, which is in ``column``, are in one of them.

    Raises:
        ConfigError: it has a single prompt.
    """
    with usable("--data", file):
        records = [record for _, record in read_records(file)]
    prompts = [json.dumps(record.get(column), sort_keys=True, default=str) for record in records]
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < 2:
        raise ConfigError(
            f"--data: {file} has {len(distinct)} different prompts, allowed: at least 2, so that one can be held out."
        )
    if twice := len(records) - len(distinct):
        print(f"note: {twice:,} of {len(records):,} rows have the prompt of an earlier one; both are on the same side")
    chosen = set(random.Random(0).sample(distinct, min(HELD_OUT, max(1, len(distinct) // 10))))
    parts: dict[str, list[int]] = {"train": [], "validation": []}
    for n, prompt in enumerate(prompts):
        parts["validation" if prompt in chosen else "train"].append(n)
    if file.suffix != ".parquet":
        for name, rows in parts.items():
            jsonl.replace(folder / f"{name}.jsonl", (records[i] for i in rows))
        return folder / "train.jsonl", folder / "validation.jsonl"
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    for name, rows in parts.items():
        pq.write_table(table.take(rows), folder / f"{name}.parquet")
    return folder / "train.parquet", folder / "validation.parquet"


def _first(file: Path) -> list[Record]:
    with usable("--data", file):
        try:
            records = [record for _, record in islice(read_records(file), 100)]
        except ConfigError as error:
            raise ConfigError(f"--data: {file} {error}") from None
    if not records:
        raise ConfigError(f"--data: {file} has no rows.")
    return records


def _columns(first: Sequence[Record]) -> dict[str, str]:
    try:
        return guess_columns(first)
    except ConfigError as error:
        if not sys.stdin.isatty():
            raise
        print(error)
    prompt = typer.prompt("Column of prompts")
    truth = typer.prompt("Column that rewards compare with")
    require_columns({"prompt": prompt, "ground_truth": truth}, first[0])
    return {"prompt": prompt, "ground_truth": truth}


def _ask(option: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError(f"{option}: not given, and there is no terminal to ask on. See: mrpo init --help")
    return str(typer.prompt(question))


def _ask_for_rewards() -> list[str]:
    """Asked on a terminal; without one, the recipe gets a file of its own."""
    if not sys.stdin.isatty():
        return []
    print(f"Rewards, as NAME=FUNCTION; of the library: {', '.join(module_names(LIBRARY))}.")
    found: list[str] = []
    while text := typer.prompt(
        "Reward (empty: no more; none at all: a file to write your own in)", "", show_default=False
    ):
        found.append(text)
    return found


def _reward(text: str) -> tuple[str, Mapping[str, Any]]:
    """A reward's name and settings. A file of functions stays where it is."""
    name, equals, given = text.partition("=")
    if not equals or not name.isidentifier() or not given:
        raise ConfigError(f"--reward: given {text!r}, allowed: NAME=FUNCTION, or NAME={{function: …, options: {{…}}}}.")
    value = parse(f"{name}={given}" if given.startswith("{") else override(name, given)).value()
    settings = dict(value) if isinstance(value, dict) else {"function": str(value)}
    function = str(settings.get("function", ""))
    file, colon, of_file = function.partition(":")
    if colon and file.endswith(".py"):
        settings["function"] = f"{Path(file).expanduser().resolve()}:{of_file}"
    return name, settings


def _check(recipe: NewRecipe) -> Report | None:
    """The rows as ``mrpo plan`` sees them; None: they aren't counted, since the model isn't here."""
    (recipe.folder / "config.yaml").write_text(recipe.config(), encoding="utf-8")
    run = _load(recipe)
    report = read_rows(run, max_prompt_length=sys.maxsize, train_batch_size=1)
    if isinstance(report, str):
        raise ConfigError(report)
    return report


def _load(recipe: NewRecipe) -> CheckedRun:
    return CheckedRun.load([override("recipe", str(recipe.folder))])


def _positions(model: str) -> int | None:
    try:
        return model_positions(model)
    except UnknownLength:
        return None  # mrpo plan says so


def _fitted(recipe: NewRecipe, report: Report | None) -> NewRecipe:
    """With a batch that the file has, and a limit that every prompt keeps."""
    rows = sum(of.rows for of in report.files if of.field.startswith("data.train")) if report else recipe.batch
    recipe = replace(recipe, batch=min(recipe.batch, rows) or 1)
    lengths = [of.lengths for of in report.files if of.lengths is not None] if report else []
    if not lengths:
        return replace(recipe, counted="not counted, as the model isn't here yet")
    longest = int(max(of.max for of in lengths))
    return replace(recipe, prompt_length=-(-longest // 32) * 32, counted=f"the longest prompt has {longest}")


def _say(recipe: NewRecipe, report: Report | None) -> None:
    names = {"prompt": "prompt", "ground_truth": "reward_model.ground_truth", **recipe.columns}
    print(f"prompt: column {names['prompt']}; ground truth: {names['ground_truth']}")
    for of in report.files if report else []:
        print(f"{of.field}: {of.rows:,} rows of {of.path}")
    if report and report.files[0].prompts:
        print(f"\nprompt 1, as the model sees it:\n{report.files[0].prompts[0]}\n")
    for name, settings in recipe.rewards.items():
        print(f"rewards.{name}: {settings['function']}")
    print(f"{recipe.folder / 'config.yaml'}")
    print(f"next: mrpo plan recipe={recipe.folder}, then mrpo train recipe={recipe.folder}")
