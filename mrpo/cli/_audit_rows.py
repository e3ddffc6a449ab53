"""A table of rollouts as a matrix of rewards: columns found by their names and kinds, or named by options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.cli._audit_table import as_text, read_table
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
    *("id", "epoch", "index", "idx", "sample", "sample_id", "turn", "rank", "seed", "rollout_id", "gen_id"),
    *("advantage", "advantages", "keep", "truncated", "is_truncated", "is_completed", "entropy", "temperature", "kl"),
    *("length", "prompt_length", "response_length", "completion_length", "input_lengths", "total_tokens"),
    *("tokens", "num_tokens", "num_turns", "timestamp", "time", "created", "versions"),
}
TOTALS = {"score", "reward", "rewards", "total", "total_reward", "rewards.total"}
"""Usually the sum of the others: a reward only if there are no others."""
GROUPS_OF_REWARDS = ("rewards.", "reward.", "scores.", "metrics.")
"""Where a framework keeps rewards together, what is there is all of them."""


@dataclass(frozen=True)
class Rollouts:
    prompt: str
    """What tells prompts apart, in words."""
    names: tuple[str, ...]
    rewards_NK: Tensor
    group_ids_N: Tensor
    left_out: dict[str, str]
    """Columns that aren't rewards, with the reason."""


def read_rollouts(
    file: Path, prompt: str | None = None, rewards: str | None = None, group_size: int | None = None
) -> Rollouts:
    """The reward matrix and group ids of a file, or of a folder's. Nulls, NaN and absent columns are missing scores.

    Args:
        file: as ``read_table`` takes it.
        prompt: the column that says which prompt a rollout answers; found by its name by default.
        rewards: the columns that are rewards, with commas between; found by default.
        group_size: so many rows in a row answer the same prompt, for files that don't say which.
    """
    import numpy as np
    import torch

    table = read_table(file)
    if group_size is not None:
        prompt, group_ids = _in_a_row(table, prompt, group_size)
    else:
        prompt = _prompt_column(table, prompt)
        group_ids = _codes(table, prompt)
        for step in STEP_COLUMNS:
            if step in table.column_names and step != prompt:
                step_codes = _codes(table, step)
                group_ids = group_ids * (int(step_codes.max()) + 1) + step_codes
                break
    names, left_out = _reward_columns(table, prompt, rewards)
    columns = [_numbers(table, name) for name in names]
    rewards_NK = torch.from_numpy(np.stack(columns, axis=1))
    return Rollouts(prompt, names, rewards_NK, torch.from_numpy(group_ids), left_out)


def _in_a_row(table: pa.Table, prompt: str | None, group_size: int) -> tuple[str, Any]:
    import numpy as np

    if prompt is not None:
        raise ConfigError(f"--group-size: given {group_size} beside --prompt {prompt}, allowed: one of them.")
    if group_size < 1 or table.num_rows % group_size:
        raise ConfigError(f"--group-size: given {group_size}, allowed: a divisor of the {table.num_rows} rollouts.")
    return f"{group_size} rows in a row", np.arange(table.num_rows, dtype=np.int64) // group_size


def _prompt_column(table: pa.Table, given: str | None) -> str:
    if given is not None:
        if given not in table.column_names:
            raise unknown_name("--prompt (column)", given, table.column_names)
        return given
    found = [name for name in PROMPT_COLUMNS if name in table.column_names]
    for name in found:
        if len(set(_codes(table, name).tolist())) < table.num_rows:  # otherwise it names rollouts, not prompts
            return name
    if found:
        return found[0]
    raise ConfigError(
        f"--prompt: given none, and no column has a known name. Allowed: one of {', '.join(table.column_names)}; or "
        "--group-size, where a prompt's rollouts are in a row."
    )


def _reward_columns(table: pa.Table, prompt: str, given: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The rewards, and why every other column is none."""
    if given is not None:
        names = tuple(name.strip() for name in given.split(",") if name.strip())
        for name in names:
            if name not in table.column_names:
                raise unknown_name("--rewards (column)", name, table.column_names)
        return names, {name: "not named" for name in table.column_names if name not in names}
    left_out: dict[str, str] = {}
    for name in table.column_names:
        if name in NOT_REWARDS or name == prompt:
            left_out[name] = "by its name"
        elif not (_is_number(table.column(name).type) or _is_truth(table.column(name))):
            left_out[name] = str(table.column(name).type)
    numeric = [name for name in table.column_names if name not in left_out]
    together = [name for name in numeric if name.startswith(GROUPS_OF_REWARDS)]
    parts = [name for name in together or numeric if name not in TOTALS]
    names = tuple(parts or numeric)
    if not names:
        raise ConfigError(
            f"--rewards: given none, and no numeric column is left. Columns: {', '.join(table.column_names)}."
        )
    for name in numeric:
        if name not in names:
            left_out[name] = "a total" if name in TOTALS else f"outside {together[0].partition('.')[0]}"
    return names, left_out


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _is_truth(column: pa.ChunkedArray) -> bool:
    """Texts "True" and "False", as verl writes numpy's booleans."""
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    parts = (column[:100], column)  # mostly the first few decide; as bytes, since a text may be none in UTF-8
    found = ({*part.unique().cast(pa.large_binary()).to_pylist()} - {None} for part in parts)
    return column.null_count < len(column) and all(values <= {b"True", b"False"} for values in found)


def _numbers(table: pa.Table, name: str) -> Any:
    """A column as float64, NaN where null."""
    import pyarrow as pa

    column = table.column(name)
    if _is_truth(column):
        column = pa.chunked_array([[None if text is None else text == "True" for text in column.to_pylist()]])
    if not (_is_number(column.type) or pa.types.is_null(column.type)):
        raise ConfigError(f"reward column {name!r}: holds {column.type}, allowed: numbers, true/false or null.")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)


def _codes(table: pa.Table, name: str) -> Any:
    """A column's values numbered from 0. A rollout without one can't be grouped."""
    import pyarrow as pa

    column = table.column(name)
    if column.null_count:
        raise ConfigError(f"column {name!r}: missing in {column.null_count} of {table.num_rows} rollouts.")
    if pa.types.is_nested(column.type):  # a chat
        column = pa.chunked_array([[as_text(value) for value in column.to_pylist()]])
    return column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype("int64")
