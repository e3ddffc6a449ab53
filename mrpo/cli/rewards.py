"""``mrpo rewards check FILE --recipe R | list``: what a recipe's rewards say of responses there are; the library."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mrpo.cli._reward_table import Scored, failures_above, show
from mrpo.config.check import check_reward
from mrpo.config.load import load_run_config
from mrpo.config.run import RewardConfig, RunConfig
from mrpo.errors import ConfigError
from mrpo.record import jsonl
from mrpo.registry import module_names
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer
from mrpo.rewards.source import LIBRARY

USAGE = """usage: mrpo rewards check FILE --recipe NAME [--most-failures SHARE] [--out FILE.jsonl] [key=value ...]
       mrpo rewards list

  mrpo rewards check runs/latest/rollouts/5.jsonl --recipe quickstart
  mrpo rewards check responses.parquet --recipe mine rewards.correct.timeout=5

FILE is JSON lines or parquet: prompt, response (or responses), ground_truth (or reward_model.ground_truth), and if
there are any extra_info, data_source, response_tokens; or the rollouts of a run. Rows with one uid, or without it with
one prompt, are a group.
"""


@dataclass(frozen=True)
class Row:
    """One response to score. ``place`` tells a user which one; rows of a ``group`` answer the same prompt."""

    place: str
    group: str
    prompt: Any
    response: str
    ground_truth: Any
    extra: dict[str, Any]


def main(argv: list[str]) -> int:
    """Exit codes: 0 fine, 1 a reward failed in too many rows, 2 bad input (nothing was scored)."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv == ["list"]:
        Console().print(library_table())
        return 0
    if argv[0] == "check":
        return check(argv[1:])
    raise ConfigError(f"mrpo rewards: given {' '.join(argv)!r}, allowed: check FILE --recipe NAME, or list.")


def check(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mrpo rewards check", usage=USAGE.partition("usage: ")[2])
    parser.add_argument("file", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--most-failures", type=float, default=0.05)
    parser.add_argument("--out", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(argv)
    config, recipe = load_run_config([f"recipe={options.recipe}", *options.overrides])
    for name, reward in config.rewards.items():
        check_reward(f"rewards.{name}", reward, recipe.folder)
        if reward.model is not None and "url" not in reward.options:
            raise ConfigError(
                f"rewards.{name}.model: only a run serves models. Allowed here: rewards.{name}.options.url of a server "
                f"that runs, and rewards.{name}.options.model."
            )
    rows, note = count_tokens(list(read_rows(options.file)), config)
    scored = asyncio.run(score(rows, config.rewards, recipe.folder))
    if options.out is not None:
        jsonl.replace(options.out, records(rows, scored))
    console = Console()
    show(console, scored, [row.group for row in rows], [row.place for row in rows])
    for line in (note, f"rows with their scores: {options.out}" if options.out is not None else ""):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    too_many = failures_above(options.most_failures, scored)
    for line in too_many:
        print(f"mrpo rewards check: {line}", file=sys.stderr)
    return 1 if too_many else 0


async def score(rows: list[Row], rewards: Mapping[str, RewardConfig], folder: Path) -> dict[str, Scored]:
    """Every row by every reward, no more at once than its processes take, so that the times are those of a score."""
    scorers = {name: Scorer({name: reward}, folder) for name, reward in rewards.items()}
    scored = {name: Scored(reward) for name, reward in rewards.items()}
    errors = await asyncio.gather(*(scorer.start() for scorer in scorers.values()), return_exceptions=True)
    told = Console(stderr=True)

    async def run(name: str, bar: Progress) -> None:
        task = bar.add_task(name, total=len(rows))
        loaded = scorers[name].pools[name].processes[0].loaded
        each = 1 if loaded is None else loaded["concurrency"]
        results: list[tuple[Outcome, float] | None] = [None] * len(rows)
        left = iter(enumerate(rows))

        async def lane() -> None:
            for n, row in left:
                start = time.perf_counter()
                outcome = (await scorers[name].score(row.prompt, row.response, row.ground_truth, row.extra))[name]
                results[n] = (outcome, time.perf_counter() - start)
                bar.advance(task)

        await asyncio.gather(*(lane() for _ in range(each * rewards[name].processes)))
        scored[name] = replace(scored[name], results=[result for result in results if result is not None])

    try:
        if wrong := [str(error) for error in errors if error is not None]:
            raise ConfigError("\n".join(wrong))
        with Progress(console=told, transient=True, disable=not told.is_terminal) as bar:
            await asyncio.gather(*(run(name, bar) for name in rewards))
    finally:
        await asyncio.gather(*(scorer.close() for scorer in scorers.values()))
    return scored


def read_rows(file: Path) -> Iterator[Row]:
    """
    Raises:
        ConfigError: there is no such file, it can't be read, or a row lacks what is needed; says which.
    """
    if not file.is_file():
        raise ConfigError(f"FILE: no such file: {file}")
    empty = True
    for place, record in _records(file):
        empty = False
        many = record.get("responses") is not None
        responses = record["responses"] if many else [_need(record, place, "response", "responses")]
        prompt = _need(record, place, "prompt")
        truth = _need(record, place, "ground_truth", "reward_model.ground_truth")
        tokens = record.get("response_tokens", record.get("tokens"))
        counts = tokens if many and tokens is not None else [tokens] * len(responses)
        if not isinstance(responses, list) or not all(isinstance(response, str) for response in responses):
            field = "responses" if many else "response"
            allowed = "a list of texts" if many else "a text"
            raise ConfigError(f"{place}: {field}: given {record.get(field)!r:.80}, allowed: {allowed}.")
        if not isinstance(counts, list) or len(counts) != len(responses):
            raise ConfigError(f"{place}: response_tokens: given {tokens!r:.80}, allowed: {len(responses)} numbers.")
        extra = {**(record.get("extra_info") or {}), "data_source": record.get("data_source")}
        uid = record.get("uid")
        group = json.dumps([prompt, truth] if uid is None else [record.get("step"), uid], default=str)
        chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        for n, (response, count) in enumerate(zip(responses, counts, strict=True)):
            known = {} if count is None else {"response_tokens": count}
            yield Row(f"{place}.{n}" if many else place, group, chat, response, truth, extra | known)
    if empty:
        raise ConfigError(f"FILE: no rows in {file}.")


def _records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row, after words that tell where it is."""
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield from ((f"row {n}", record) for n, record in enumerate(pq.read_table(file).to_pylist(), 1))
        except pa.ArrowInvalid as error:
            raise ConfigError(f"FILE: {file} can't be read as parquet: {error}") from None
        return
    try:
        yield from ((f"row {n}", record) for n, record in jsonl.read_input(file))
    except jsonl.CorruptLineError as error:
        raise ConfigError(f"FILE: {error}") from None


def _need(record: Mapping[str, Any], place: str, *fields: str) -> Any:
    """The first of ``fields`` that the row has, null or not."""
    for field in fields:
        outer, dot, inner = field.partition(".")
        if field in record:
            return record[field]
        if dot and isinstance(record.get(outer), dict) and inner in record[outer]:
            return record[outer][inner]
    raise ConfigError(f"{place}: has no {' or '.join(fields)}. Its keys: {', '.join(record) or 'none'}.")


def count_tokens(rows: list[Row], config: RunConfig) -> tuple[list[Row], str]:
    """The rows with ``response_tokens`` where they lacked it, and what to say about that."""
    lacking = sum("response_tokens" not in row.extra for row in rows)
    if not lacking:
        return rows, ""
    file = _tokenizer_file(config.model.path)
    share = f"response_tokens: not given for {lacking} of {len(rows)} responses; counted"
    if file is None:
        counts = (len(row.response.split()) for row in rows)
        note = f"{share} as words, since no tokenizer of {config.model.path} is on this machine"
    else:
        from tokenizers import Tokenizer

        tokenizer, longest = Tokenizer.from_file(str(file)), config.data.max_response_length
        lengths = (len(tokenizer.encode(row.response, add_special_tokens=False).ids) for row in rows)
        counts = (n + (n < longest) for n in lengths)
        note = f"{share} with {file}, plus one for the token that ends a response"
    return [replace(row, extra={"response_tokens": n, **row.extra}) for row, n in zip(rows, counts, strict=True)], note


def _tokenizer_file(model: str) -> Path | None:
    file = Path(model).expanduser() / "tokenizer.json"
    if file.is_file():
        return file
    if model.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "tokenizer.json")
    return Path(cached) if isinstance(cached, str) else None


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
            "tokens": row.extra["response_tokens"],
        }


def library_table() -> Table:
    table = Table("name", "range", "what", "options", title="function: NAME", show_lines=True)
    for name in module_names(LIBRARY):
        module = importlib.import_module(f"{LIBRARY}.{name}")
        target = getattr(module, name)
        parameters = inspect.signature(target).parameters.values()
        given_by_us = ("prompt", "response", "ground_truth", "extra")
        options = [_option(parameter) for parameter in parameters if parameter.name not in given_by_us]
        span = "[{:g}, {:g}]".format(*module.bounds()) if hasattr(module, "bounds") else "any"
        table.add_row(name, span, (module.__doc__ or "").splitlines()[0], "\n".join(options))
    return table


def _option(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return f"{parameter.name} (required)"
    told = repr(parameter.default)
    return f"{parameter.name} = {told if len(told) <= 20 else '…'}"
