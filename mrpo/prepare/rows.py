"""Rows in verl's schema: built, checked, written as parquet.

A row is a prompt, as chat messages; the ground truth that rewards compare with; and in ``extra_info`` what else they
need. verl concatenates files, so all rows of a recipe should have the same keys there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from mrpo.errors import ConfigError

ROLES = ("system", "user", "assistant", "tool")


class Message(TypedDict):
    """One message of a chat."""

    role: str
    content: str


class RewardModel(TypedDict):
    """What verl calls the place of the ground truth."""

    style: str
    ground_truth: str


class Row(TypedDict):
    """One prompt in verl's schema."""

    data_source: str
    prompt: list[Message]
    reward_model: RewardModel
    extra_info: dict[str, Any]


def make_row(data_source: str, prompt: str | Sequence[Any], ground_truth: str | None, index: int, **extra: Any) -> Row:
    """One prompt in verl's schema.

    Args:
        data_source: the name of the data set in metrics.
        prompt: what the user says, or all messages, each with ``role`` and ``content``.
        ground_truth: what rewards compare with; None where models judge, and nothing is compared.
        index: the row's number in its data source.
        extra: whatever else rewards need, in ``extra_info``.

    >>> make_row("sums", "1 + 1?", "2", index=0)["prompt"]
    [{'role': 'user', 'content': '1 + 1?'}]
    """
    messages: Sequence[Any] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {
        "data_source": data_source,
        "prompt": [{"role": message["role"], "content": message["content"]} for message in messages],
        "reward_model": {"style": "rule" if ground_truth is not None else "model", "ground_truth": ground_truth or ""},
        "extra_info": {"index": index, **extra},
    }


def select(rows: Iterable[Row], problem: Callable[[Row], str]) -> tuple[list[Row], dict[str, int]]:
    """The rows for which ``problem`` is empty, and how many were dropped for which problem."""
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        found = problem(row)
        if found:
            dropped[found] += 1
        else:
            kept.append(row)
    return kept, dict(dropped)


def first_of_each(rows: Iterable[Row], number: int) -> list[Row]:
    """At most ``number`` rows of each data source."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row["data_source"], []).append(row)
    return [row for group in by_source.values() for row in group[:number]]


def write(rows: Sequence[Row], file: Path, dropped: dict[str, int] | None = None) -> None:
    """Check ``rows`` and write them as parquet; print how many of each data source, and how many were ``dropped``.

    Raises:
        ConfigError: see ``check``; nothing is written.
    """
    check(rows, file.name)
    pd.DataFrame(rows).to_parquet(file)
    for source, number in Counter(row["data_source"] for row in rows).items():
        print(f"{file.name}: {number} of {source}", flush=True)
    for problem, number in (dropped or {}).items():
        print(f"{file.name}: {number} dropped: {problem}", flush=True)
    repeated = len(rows) - len({str(row["prompt"]) for row in rows})
    if repeated:
        print(f"{file.name}: {repeated} with the prompt of another row", flush=True)


def check(rows: Sequence[Row], name: str) -> None:
    """Every row has verl's schema, no data source has an index twice, and there is a row.

    Args:
        name: the file's, for the message.

    Raises:
        ConfigError: naming the first row that is wrong, its field, what was given and what is allowed.
    """
    if not rows:
        raise ConfigError(f"{name}: no row is left.")
    seen: set[tuple[str, int]] = set()
    for number, row in enumerate(rows):
        found = next(_problems(row), None)
        key = (row.get("data_source", ""), (row.get("extra_info") or {}).get("index", -1))
        if found is None and key in seen:
            found = f"extra_info.index: given {key[1]} a second time, allowed: one row of {key[0]} each."
        if found is not None:
            raise ConfigError(f"{name}: row {number} ({key[0]} {key[1]}): {found}")
        seen.add(key)


def _problems(row: Any) -> Iterator[str]:
    """What is wrong with a row. It may be anything: a script may have built it by hand."""
    source, prompt = row.get("data_source"), row.get("prompt")
    truth, extra = row.get("reward_model") or {}, row.get("extra_info") or {}
    if not isinstance(source, str) or not source:
        yield f"data_source: given {source!r}, allowed: a name."
    if not isinstance(prompt, list) or not prompt:
        yield f"prompt: given {prompt!r}, allowed: a list of messages."
        return
    for message in prompt:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            yield f"prompt: given the message {message!r}, allowed: a role among {', '.join(ROLES)}, and content."
        elif not isinstance(message.get("content"), str) or not message["content"].strip():
            yield f"prompt: given the message {message!r}, allowed: one with content."
    if isinstance(prompt[-1], dict) and prompt[-1].get("role") not in ("user", "tool"):
        yield f"prompt: given a last message of role {prompt[-1].get('role')!r}, allowed: user, or tool."
    text = truth.get("ground_truth")
    if not isinstance(text, str) or (truth.get("style") != "model" and not text.strip()):
        yield f"reward_model.ground_truth: given {text!r}, allowed: a text."
    if not isinstance(extra.get("index"), int):
        yield f"extra_info.index: given {row.get('extra_info')!r}, allowed: a number."
