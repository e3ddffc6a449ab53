"""Rollouts of any framework as a matrix of rewards: a line each, columns found by their names or named by options."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

PROMPT_COLUMNS = (
    *("uid", "prompt_uid", "prompt_id", "group_id", "problem_id", "question_id", "task_id", "example_id"),
    *("prompt", "input", "question", "problem"),
)
"""Names of a prompt's identity, most specific first."""
STEP_COLUMNS = ("step", "global_step", "training_step", "iteration")
NOT_REWARDS = {
    *PROMPT_COLUMNS,
    *STEP_COLUMNS,
    *("id", "epoch", "index", "idx", "sample", "sample_id", "turn", "rank", "seed", "rollout_id", "advantage"),
    "truncated",
    *("length", "prompt_length", "response_length", "completion_length", "num_tokens", "timestamp", "time"),
}
TOTALS = {"score", "reward", "total", "total_reward", "rewards.total"}
"""Usually the sum of the others: a reward only if there are no others."""


@dataclass(frozen=True)
class Rollouts:
    prompt: str
    names: tuple[str, ...]
    rewards_NK: Tensor
    group_ids_N: Tensor


def read_rollouts(file: Path, prompt: str | None = None, rewards: str | None = None) -> Rollouts:
    """The reward matrix and group ids of a JSON-lines file. Nulls and absent columns are missing scores."""
    import numpy as np
    import torch

    table = _read_table(file)
    if table.num_rows == 0:
        raise ConfigError(f"{file}: no rollouts in it.")
    prompt = _prompt_column(table, prompt)
    names = _reward_columns(table, prompt, rewards)
    columns = [_numbers(table, name) for name in names]
    group_ids = _codes(table, prompt)
    for step in STEP_COLUMNS:
        if step in table.column_names:
            step_codes = _codes(table, step)
            group_ids = group_ids * (int(step_codes.max()) + 1) + step_codes
            break
    return Rollouts(prompt, names, torch.from_numpy(np.stack(columns, axis=1)), torch.from_numpy(group_ids))


def _read_table(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.json as paj

    if not file.is_file():
        raise ConfigError(f"{file}: no such file.")
    if file.stat().st_size == 0:
        raise ConfigError(f"{file}: no rollouts in it.")
    try:
        table = paj.read_json(_without_details(file), read_options=paj.ReadOptions(block_size=1 << 24))
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{file}: not JSON lines: {error}") from error
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _without_details(file: Path) -> Any:
    """``file``, or its content without what reward functions told besides their scores: that is no reward, and may be a
    number in one line and a text in the next, which a table can't hold."""
    if b'"details":' not in (content := file.read_bytes()):
        return file
    lines = []
    for line in content.splitlines():
        if b'"details":' in line:
            with contextlib.suppress(ValueError):  # the reader of tables says it better
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.pop("details", None), dict):
                    line = json.dumps(record).encode()
        lines.append(line)
    return io.BytesIO(b"\n".join(lines))


def _prompt_column(table: pa.Table, given: str | None) -> str:
    if given is not None:
        if given not in table.column_names:
            raise unknown_name("--prompt (column)", given, table.column_names)
        return given
    found = [name for name in PROMPT_COLUMNS if name in table.column_names]
    for name in found:
        if len(table.column(name).unique()) < table.num_rows:  # otherwise it names rollouts, not prompts
            return name
    if found:
        return found[0]
    raise ConfigError(
        f"--prompt: given none, and no column has a known name. Allowed: one of {', '.join(table.column_names)}."
    )


def _reward_columns(table: pa.Table, prompt: str, given: str | None) -> tuple[str, ...]:
    if given is not None:
        names = tuple(name.strip() for name in given.split(",") if name.strip())
        for name in names:
            if name not in table.column_names:
                raise unknown_name("--rewards (column)", name, table.column_names)
        return names
    numeric = [
        field.name
        for field in table.schema
        if _is_number(field.type) and field.name not in NOT_REWARDS and field.name != prompt
    ]
    parts = [name for name in numeric if name not in TOTALS]
    marked = [name for name in parts if "reward" in name.lower()]
    names = tuple(marked or parts or numeric)
    if not names:
        raise ConfigError(
            f"--rewards: given none, and no numeric column is left. Columns: {', '.join(table.column_names)}."
        )
    return names


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _numbers(table: pa.Table, name: str) -> Any:
    """A column as float64, NaN where null."""
    import pyarrow as pa

    column = table.column(name)
    if not (_is_number(column.type) or pa.types.is_null(column.type)):
        raise ConfigError(f"reward column {name!r}: holds {column.type}, allowed: numbers, true/false or null.")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)


def _codes(table: pa.Table, name: str) -> Any:
    """A column's values numbered from 0. A rollout without one can't be grouped."""
    column = table.column(name)
    if column.null_count:
        raise ConfigError(f"column {name!r}: missing in {column.null_count} of {table.num_rows} rollouts.")
    return column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype("int64")
