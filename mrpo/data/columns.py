"""Which columns of a file hold the prompt and the ground truth, guessed from their names and values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrpo.errors import ConfigError

PROMPTS = ("prompt", "question", "problem", "messages", "instruction", "query", "input", "conversations", "text")
"""Names under which data sets have their prompts, the commonest first."""
TRUTHS = ("ground_truth", "answer", "solution", "label", "target", "reference", "expected", "output", "response")
"""Names under which they have what is compared with."""


def guess_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``data.columns`` for rows like these; empty for rows in verl's schema.

    Raises:
        ConfigError: no column has a name that says what it holds.

    >>> guess_columns([{"id": 1, "question": "1+1", "answer": "2"}])
    {'prompt': 'question', 'ground_truth': 'answer'}
    """
    first = records[0]
    found: dict[str, str] = {}
    if (prompt := _named(first, PROMPTS)) is None:
        raise ConfigError(f"--prompt: not given, allowed: the column of prompts, among {_listed(first)}.")
    if prompt != "prompt":
        found["prompt"] = prompt
    of_verl = first.get("reward_model")
    if not (isinstance(of_verl, Mapping) and "ground_truth" in of_verl):
        if (truth := _named(first, TRUTHS)) is None:
            raise ConfigError(
                f"--ground-truth: not given, allowed: the column that rewards compare with, among {_listed(first)}; "
                "where there is none, one of nulls."
            )
        found["ground_truth"] = truth
    return found


def require_columns(given: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Raises ConfigError for a column that the row doesn't have."""
    for field, column in given.items():
        if column not in record:
            raise ConfigError(f"--{field.replace('_', '-')}: given {column!r}, allowed: {_listed(record)}.")


def _named(record: Mapping[str, Any], names: Sequence[str]) -> str | None:
    by_lower = {str(column).lower(): str(column) for column in reversed(list(record))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _listed(record: Mapping[str, Any]) -> str:
    return ", ".join(map(str, record))
