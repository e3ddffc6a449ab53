"""Rollouts of any framework as a table, a row a rollout: parquet, JSON lines, a JSON list, or a folder of such files.

A line may hold one rollout (mrpo, TRL, verl, prime-rl), or those of a step as lists of one length (ms-swift; NeMo-RL
has lists of one), which become a row each. Nested columns are ``outer.inner``.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.errors import ConfigError
from mrpo.record.run_folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = (".parquet", ".jsonl", ".ndjson", ".json")


def read_table(path: Path) -> pa.Table:
    """Raises ConfigError if there is no such file, none in the folder, or one that isn't what its name says."""
    import pyarrow as pa

    if RunFolder(path).events_file.is_file():
        path = RunFolder(path).rollouts
    if not path.exists():
        raise ConfigError(f"{path}: no such file.")
    files = sorted(file for file in path.iterdir() if file.suffix in KINDS) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: holds no rollouts. Allowed: files that end in {', '.join(KINDS)}.")
    tables = [table for file in files if (table := _read(file)).num_rows]
    if not tables:
        raise ConfigError(f"{path}: no rollouts in it.")
    for name in (name for table in tables for name in table.column_names if table.column_names.count(name) > 1):
        raise ConfigError(f"{path}: the column {name!r} is there more than once.")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ConfigError(f"{path}: its files don't hold the same columns: {_line(error)}") from error


def _read(file: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.stat().st_size == 0:
        return pa.table({})
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == b"PAR1":
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{file}: not parquet: {_line(error)}") from error
        return _flat(table) if _is_a_row_a_rollout(table) else _of_records(table.to_pylist())
    if file.suffix not in KINDS[1:] and start[:1] not in b"{[":
        raise ConfigError(f"{file}: a kind of file that isn't read. Allowed: parquet, JSON lines, a JSON list.")
    if start[:1] != b"[" and (table := _quickly(file)) is not None and _is_a_row_a_rollout(table):
        return _flat(table)
    return _of_records(list(_records(file)))


def _quickly(file: Path) -> pa.Table | None:
    """JSON lines whose columns are of one kind each; None: they aren't, or it isn't JSON, which ``_records`` tells."""
    import pyarrow as pa
    import pyarrow.json as paj

    try:
        return paj.read_json(_without_details(file), read_options=paj.ReadOptions(block_size=1 << 24))
    except pa.ArrowException:
        return None


def _without_details(file: Path) -> Any:
    """``file``, or its content without what reward functions told besides their scores: that is no reward, and may be a
    number in one line and a text in the next, which a table can't hold."""
    if b'"details":' not in (content := file.read_bytes()):
        return file
    lines = []
    for line in content.splitlines():
        if b'"details":' in line:
            with contextlib.suppress(ValueError):  # the reader of records says it better
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.pop("details", None), dict):
                    line = json.dumps(record).encode()
        lines.append(line)
    return io.BytesIO(b"\n".join(lines))


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """A JSON file's records, whatever kinds of values stand in one column."""
    try:
        content = file.read_text(encoding="utf-8")
        texts = [content] if content.lstrip().startswith("[") else content.splitlines()
        for number, text in enumerate(texts, 1):
            if not text.strip():
                continue
            found = json.loads(text)
            for record in found if isinstance(found, list) else [found]:
                if not isinstance(record, dict):
                    raise ConfigError(f"{file}: line {number} holds {record!r:.40}, allowed: an object a rollout.")
                record.pop("details", None)
                yield record
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not JSON lines: {error}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON lines: line {number}: {error}") from error


def _is_a_row_a_rollout(table: pa.Table) -> bool:
    """Whether scores stand alone: a number is in a column of its own rather than in a list, or nothing is in lists."""
    import pyarrow as pa

    def is_list(kind: Any) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))

    listed = [field for field in table.schema if is_list(field.type) and not pa.types.is_struct(field.type.value_type)]
    return not any(_may_hold_scores(field.type.value_type) for field in listed) or _has_scores(table.schema)


def _has_scores(schema: pa.Schema) -> bool:
    import pyarrow as pa

    from mrpo.cli._audit_rows import NOT_REWARDS

    return any(
        pa.types.is_struct(field.type) or (_may_hold_scores(field.type) and field.name not in NOT_REWARDS)
        for field in schema
    )


def _may_hold_scores(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _flat(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _of_records(records: list[dict[str, Any]]) -> pa.Table:
    """A table of numbers and texts: what is neither, a chat say, is its JSON."""
    import pyarrow as pa

    rows = [dict(_flat_items(row)) for record in records for row in _rows(record)]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rollouts of a line: one, or where scores are in lists, one for each place of the lists of that length."""
    from mrpo.cli._audit_rows import NOT_REWARDS, PROMPT_COLUMNS

    lists = {name: value for name, value in record.items() if isinstance(value, list)}
    scores = [name for name, values in lists.items() if values and all(map(_is_score, values))]
    alone = [name for name, value in record.items() if name not in NOT_REWARDS and _is_score(value)]
    if not scores or any(value is not None for value in map(record.get, alone)):
        yield record
        return
    named = [name for name in lists if name in (*PROMPT_COLUMNS, "content")]
    length = len(lists[(named or scores)[0]])
    for i in range(length):
        yield {name: value[i] if len(lists.get(name, ())) == length else value for name, value in record.items()}


def _is_score(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _flat_items(record: dict[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat_items(value, f"{start}{name}.")
        else:
            yield f"{start}{name}", value


def _column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    if all(map(_is_score, values)):
        return pa.array([None if value is None else _number(value) for value in values], pa.float64())
    return pa.array([value if value is None or isinstance(value, str) else as_text(value) for value in values])


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return float("inf")


def as_text(value: Any) -> str:
    """One text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
