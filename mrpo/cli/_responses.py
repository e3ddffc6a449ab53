"""Responses to score, from a file of JSON lines or parquet: verl's schema, plain columns, or a run's rollouts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mrpo.config.model_files import find_model_file
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError
from mrpo.record import jsonl


@dataclass(frozen=True)
class Row:
    """One response to score. ``place`` says where in the file it is; rows of a ``group`` answer the same prompt."""

    place: str
    group: str
    prompt: Any
    response: str
    ground_truth: Any
    extra: dict[str, Any]


def read_rows(file: Path) -> Iterator[Row]:
    """
    Raises:
        ConfigError: there is no such file, it can't be read, or a row lacks what is needed; says which.
    """
    if not file.is_file():
        raise ConfigError(f"FILE: no such file: {file}")
    empty = True
    for place, record in _records(file):
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
        info = record.get("extra_info") or {}
        if not isinstance(info, dict):
            raise ConfigError(f"{place}: extra_info: given {info!r:.80}, allowed: an object.")
        extra = {**info, "data_source": record.get("data_source")}
        extra |= {"truncated": record["truncated"]} if isinstance(record.get("truncated"), bool) else {}
        uid = record.get("uid")
        group = json.dumps([prompt, truth] if uid is None else [record.get("step"), uid], default=str)
        chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        for n, (response, count) in enumerate(zip(responses, counts, strict=True)):
            empty = False
            known = {} if count is None else {"response_tokens": count}
            yield Row(f"{place}.{n}" if many else place, group, chat, response, truth, extra | known)
    if empty:
        raise ConfigError(f"FILE: no rows in {file} that have a response.")


def _records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row, after words that say where it is."""
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield from ((f"row {n}", record) for n, record in enumerate(pq.read_table(file).to_pylist(), 1))
        except (pa.ArrowException, OSError, ValueError) as error:  # a damaged page is an OSError
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
    file = find_model_file(config.model.path, "tokenizer.json")
    share = f"response_tokens: not given for {lacking} of {len(rows)} responses; counted"
    if file is None:
        counts = (len(row.response.split()) for row in rows)
        note = f"{share} as words, since no tokenizer of {config.model.path} is on this machine"
    else:
        from tokenizers import Tokenizer

        tokenizer, limit = Tokenizer.from_file(str(file)), config.data.max_response_length
        lengths = (len(tokenizer.encode(_whole(row.response), add_special_tokens=False).ids) for row in rows)
        counts = (n + (n < limit) for n in lengths)
        note = f"{share} with {file}, plus one for the token that ends a response"
    return [replace(row, extra={"response_tokens": n, **row.extra}) for row, n in zip(rows, counts, strict=True)], note


def open_tags(rows: list[Row], config: RunConfig) -> tuple[list[Row], str]:
    """The rows with ``opened_tag``, as a run has it, where the model's chat template ends a prompt in an opening tag,
    and what to say about that. A tag that a row has already stays."""
    verl = OmegaConf.create(config.verl)
    path, template, trusted = (
        OmegaConf.select(verl, f"actor_rollout_ref.model.{name}")
        for name in ("tokenizer_path", "custom_chat_template", "trust_remote_code")
    )
    path = str(Path(path or config.model.path).expanduser())
    if find_model_file(path, "tokenizer_config.json") is None:
        return rows, f"prompts: not rendered, since no tokenizer of {path} is on this machine"
    from mrpo.data.render import Renderer, opened_tag  # imports transformers

    tags: dict[str, str] = {}
    refused = ""
    try:
        renderer = Renderer(path, config.data.apply_chat_template_kwargs, template, bool(trusted))
    except ConfigError as error:
        return rows, f"prompts: not rendered: {error}"
    for key, row in {json.dumps(row.prompt, default=str): row for row in rows}.items():
        try:
            tags[key] = opened_tag(renderer.render(row.prompt))
        except (ConfigError, AttributeError, IndexError, KeyError, TypeError) as error:
            tags[key], refused = "", f"prompts: not all rendered: {row.place}: {error}"
    found = [tags[json.dumps(row.prompt, default=str)] for row in rows]
    shown = ", ".join(f"<{tag}>" for tag in sorted({*found} - {""}))
    note = f"prompts: the chat template opens {shown}, which counts as the response's" if shown else ""
    marked = [
        replace(row, extra={"opened_tag": tag, **row.extra}) if tag else row
        for row, tag in zip(rows, found, strict=True)
    ]
    return marked, refused or note


def _whole(text: str) -> str:
    """Without halves of characters, of which UTF-8 and tokenizers know nothing."""
    return text.encode("utf-8", "replace").decode()
