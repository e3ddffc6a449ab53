"""All rows of a run: read, brought into verl's schema, rendered, counted, and written where verl reads them.

``python -m mrpo.data.check JOB.json OUT`` writes into the folder OUT a parquet file for each file of the job, with one
schema, and ``report.json``. It is a process of its own since tokenizers import torch. Exits with 2 and one sentence if
a row is refused.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from mrpo.config.agent import SINGLE_TURN, TOOL_AGENT
from mrpo.config.base import StrictModel
from mrpo.config.data_files import split_of
from mrpo.data.files import read_records, read_split
from mrpo.data.kinds import Kinds
from mrpo.data.render import Renderer, opened_tag
from mrpo.data.rows import make_row
from mrpo.errors import ConfigError, unknown_name
from mrpo.tools.schema import Tool, load_tools, offered, schema_of

BATCH = 1000
"""Prompts that are tokenized at once."""
SHOWN = 3
"""Rendered prompts in the report, and row numbers in a message."""

Row = dict[str, Any]


class Job(StrictModel):
    """What decides the rows that verl gets."""

    files: dict[str, str]
    """Path by the field that names it, ``data.train_files[0]``."""
    columns: dict[str, str]
    overlong: Literal["refuse", "drop", "truncate_left"]
    max_prompt_length: int
    train_batch_size: int
    tokenizer: str | None
    """A folder or a name on the hub; None: it isn't here yet, so prompts are neither rendered nor counted."""
    template: str | None
    """A chat template in place of the tokenizer's own."""
    template_options: dict[str, Any]
    trust_remote_code: bool
    agents: tuple[str, ...] = (SINGLE_TURN,)
    """What a row's ``agent_name`` may be; the first is that of a row without one."""
    tools: tuple[str, ...] = ()
    """The functions that ``tool_agent`` offers (``rollout.agent.tools``)."""
    recipe_folder: str = "."
    """What their files are relative to."""


class Lengths(BaseModel):
    """Prompt lengths of a file, in tokens."""

    min: float
    median: float
    p99: float
    max: float


class FileReport(BaseModel):
    """What became of a file."""

    field: str
    path: str
    rows: int
    """Rows that verl gets."""
    dropped: int = 0
    """Rows whose prompt is longer than the limit, which are left out."""
    truncated: int = 0
    """Prompts that are longer than the limit, and will be cut on their left."""
    sources: dict[str, int] = {}
    """Rows of each data source that verl gets."""
    lengths: Lengths | None = None
    """Of all rows of the file; None: without a tokenizer."""
    prompts: list[str] = []
    """The first few, rendered."""
    opened_tag: str = ""
    """The tag that the first prompt ends in."""


class Report(BaseModel):
    """What became of all files."""

    files: list[FileReport]


def name_of(field: str) -> str:
    """The file that verl gets for a field.

    >>> name_of("data.train_files[0]")
    'train_files-0.parquet'
    """
    return field.removeprefix("data.").replace("[", "-").replace("]", "") + ".parquet"


def check(job: Job, out: Path) -> Report:
    """Write the rows of ``job`` into ``out``. Raises ConfigError naming the file, the row and what is wrong with it."""
    renderer = None
    if job.tokenizer is not None:
        renderer = Renderer(job.tokenizer, job.template_options, job.template, job.trust_remote_code)
    agents = Agents(job)
    rows: dict[str, list[Row]] = {}
    kinds = Kinds()
    report = Report(files=[])
    for field, path in job.files.items():
        rows[field], of_file = _read(job, field, path, renderer, agents, kinds)
        of_file.sources = dict(Counter(row["data_source"] for row in rows[field]))
        report.files.append(of_file)
    trained = sum(len(found) for field, found in rows.items() if field.startswith("data.train_files"))
    if trained < job.train_batch_size:
        raise ConfigError(
            f"data.train_batch_size: given {job.train_batch_size}, allowed: at most the {trained} rows of the files"
        )
    _write(rows, kinds, out)
    (out / "report.json").write_text(report.model_dump_json(indent=1), encoding="utf-8")
    return report


class Agents:
    """The agent loops that rows may name, and what a prompt of theirs says of tools.

    Raises:
        ConfigError: a tool can't be loaded, or described to a model.
    """

    def __init__(self, job: Job):
        self.names, self.tools = job.agents, load_tools(job.tools, Path(job.recipe_folder))
        self.schemas = {name: schema_of(tool) for name, tool in self.tools.items()}

    def tools_of(self, row: Row) -> list[dict[str, Any]]:
        """The schemas of the tools that a row offers. Raises ConfigError if its agent can't do what it asks for."""
        agent = row.get("agent_name") or self.names[0]
        if agent not in self.names:
            raise unknown_name("agent_name", agent, self.names, noun="agent loop")
        if row["prompt"][-1]["role"] == "assistant" and agent != SINGLE_TURN:
            raise ConfigError(
                f"agent_name: given {agent!r} with a last message of the assistant, allowed: {SINGLE_TURN}."
            )
        taken = sorted({"messages", "turns", "tool_calls"} & {*row["extra_info"]})
        if agent != SINGLE_TURN and taken:
            raise ConfigError(
                f"extra_info.{taken[0]}: given beside the agent {agent}, of whose rollouts rewards are told under this "
                "name. Allowed: another name."
            )
        if agent != TOOL_AGENT:
            return []
        if not self.tools:
            raise ConfigError(f"agent_name: given {TOOL_AGENT}, and there are no tools. Set rollout.agent.tools.")
        found: list[Tool] = offered(self.tools, row["extra_info"])
        return [self.schemas[tool.name] for tool in found]


def _read(
    job: Job, field: str, path: str, renderer: Renderer | None, agents: Agents, kinds: Kinds
) -> tuple[list[Row], FileReport]:
    file, split = Path(path).expanduser(), split_of(path)
    source = file.stem if split is None else split.data_set.rstrip("/")
    source = Path(source).name if split is not None and split.is_folder else source
    try:
        records = list(read_records(file) if split is None else read_split(split))
    except ConfigError as error:
        raise ConfigError(f"{field}: {path} {error}") from None
    if not records:
        raise ConfigError(f"{field}: {path} has no rows.")
    rows: list[Row] = []
    texts: list[str] = []
    for number, record in records:
        try:
            rows.append(make_row(record, number, job.columns, source))
            tools = agents.tools_of(rows[-1])
            if renderer is not None:
                texts.append(renderer.render(rows[-1]["prompt"], tools))
                if tag := opened_tag(texts[-1]):
                    rows[-1]["extra_info"]["opened_tag"] = tag
        except ConfigError as error:
            raise ConfigError(f"{field}: {path}: row {number}: {error}") from None
        kinds.see(rows[-1], f"{path} row {number}")
    report = FileReport(field=field, path=path, rows=len(rows), prompts=texts[:SHOWN])
    if renderer is None:
        return rows, report
    report.opened_tag = opened_tag(texts[0])
    batches = (texts[first : first + BATCH] for first in range(0, len(texts), BATCH))
    lengths = np.array([length for batch in batches for length in renderer.lengths(batch)])
    quantiles = np.percentile(lengths, [0, 50, 99, 100])
    report.lengths = Lengths(**dict(zip(Lengths.model_fields, quantiles.tolist(), strict=True)))
    too_long = lengths > job.max_prompt_length
    if not too_long.any():
        return rows, report
    if job.overlong == "refuse":
        some = ", ".join(f"row {records[i][0]} has {lengths[i]}" for i in np.flatnonzero(too_long)[:SHOWN])
        raise ConfigError(
            f"{field}: {path}: {too_long.sum()} of {len(rows)} prompts have more than the {job.max_prompt_length} "
            f"tokens of data.max_prompt_length, at most {lengths.max()} ({some}). Raise it, or say data.overlong=drop "
            "or data.overlong=truncate_left."
        )
    if job.overlong == "truncate_left":
        report.truncated = int(too_long.sum())
        return rows, report
    if too_long.all():
        raise ConfigError(f"{field}: {path}: data.overlong=drop leaves none of its {len(rows)} rows.")
    report.dropped = int(too_long.sum())
    report.rows -= report.dropped
    return [row for row, drop in zip(rows, too_long, strict=True) if not drop], report


def _write(rows: dict[str, list[Row]], kinds: Kinds, out: Path) -> None:
    """All files with one schema, since verl concatenates them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    everything = [row for found in rows.values() for row in found]
    try:
        schema = pa.schema(list(pa.array(everything).type))
    except (pa.ArrowException, TypeError) as error:
        raise ConfigError(kinds.conflict or f"data: the rows don't fit into one table: {error}") from None
    for field, found in rows.items():
        pq.write_table(pa.Table.from_pylist(found, schema=schema), out / name_of(field))


def main(job_file: str, out: str) -> int:
    try:
        check(Job.model_validate_json(Path(job_file).read_text(encoding="utf-8")), Path(out))
    except ConfigError as error:
        print(f"refused: {error}", flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
