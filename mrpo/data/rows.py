"""One row in verl's schema, from a row as people have it, or what is wrong with it. Pure.

| field | from | if it isn't there |
|---|---|---|
| ``prompt`` | ``columns.prompt``: messages, or plain text, which is one message of the user | refused |
| ``reward_model.ground_truth`` | ``columns.ground_truth``, else ``reward_model.ground_truth`` | refused |
| ``data_source`` | ``columns.data_source`` | the file's name |
| ``extra_info`` | itself, and every column that isn't named above | ``index`` is the row's number |

A column that is there may be null: a ground truth then says that nothing is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrpo.errors import ConfigError

ROLES = ("system", "developer", "user", "assistant", "tool")
LAST_ROLES = ("user", "tool", "assistant")
"""Of the last message. The assistant's has been begun, and rollouts go on with it."""
OF_VERL = ("prompt", "reward_model", "data_source", "extra_info", "agent_name", "ability")
"""Columns that aren't passed on to rewards as part of ``extra_info``."""
MEDIA = ("images", "videos", "audios")


def make_row(record: Mapping[str, Any], number: int, columns: Mapping[str, str], source: str) -> dict[str, Any]:
    """The row that verl gets.

    Args:
        record: the row as it was read.
        number: its number in the file.
        columns: which column is the ``prompt``, the ``ground_truth``, the ``data_source``, where these have other
            names.
        source: the data source of a row that names none.

    Raises:
        ConfigError: the field, what was given and what is allowed.

    >>> make_row({"question": "1+1", "answer": "2"}, 7, {"prompt": "question", "ground_truth": "answer"}, "sums")
    ... # doctest: +NORMALIZE_WHITESPACE
    {'data_source': 'sums', 'prompt': [{'role': 'user', 'content': '1+1'}],
     'reward_model': {'style': 'rule', 'ground_truth': '2'},
     'extra_info': {'answer': '2', 'index': 7, 'prompt_is_text': True}}
    """
    if medium := next((name for name in MEDIA if record.get(name)), None):
        raise ConfigError(f"{medium}: given some, allowed: text only.")
    column = columns.get("prompt", "prompt")
    prompt = _messages(_need(record, column, "prompt"), column)
    truth = _ground_truth(record, columns)
    named = columns.get("data_source", "data_source")
    data_source = _need(record, named, "data_source") if "data_source" in columns else record.get(named)
    if not isinstance(data_source, str | None):
        raise ConfigError(f"{named}: given {data_source!r:.80}, allowed: a name.")
    style = "model" if truth is None else "rule"
    row: dict[str, Any] = {
        "data_source": data_source or source,
        "prompt": prompt,
        "reward_model": {"style": style, "ground_truth": truth},
        "extra_info": _extra_info(record, number, {column, named}),
    }
    if isinstance(record[column], str):
        row["extra_info"]["prompt_is_text"] = True  # the rewards of some frameworks are then given texts
    if prompt[-1]["role"] == "assistant":
        row["extra_info"]["prefill"] = prompt[-1]["content"]
    if record.get("agent_name") is not None:
        row["agent_name"] = record["agent_name"]
    return row


def _need(record: Mapping[str, Any], column: str, field: str) -> Any:
    if column not in record:
        there = ", ".join(map(str, record)) or "none"
        raise ConfigError(f"has no column {column}. Its columns: {there}. Say data.columns={{{field}: COLUMN}}.")
    return record[column]


def _messages(prompt: Any, column: str) -> list[dict[str, Any]]:
    if isinstance(prompt, str) and prompt.strip():
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list) or not prompt:
        raise ConfigError(f"{column}: given {prompt!r:.80}, allowed: a list of messages, or a text.")
    messages = [_message(message, column) for message in prompt]
    last = messages[-1]
    if last["role"] not in LAST_ROLES:
        allowed = f"{', '.join(LAST_ROLES[:-1])} or {LAST_ROLES[-1]}"
        raise ConfigError(f"{column}: given a last message of role {last['role']!r}, allowed: {allowed}.")
    if last.get("tool_calls"):
        raise ConfigError(f"{column}: given a last message that calls tools, allowed: one that tools have answered.")
    if not last["content"].strip():
        raise ConfigError(f"{column}: given an empty last message, allowed: one with content.")
    return messages


def _message(message: Any, column: str) -> dict[str, Any]:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise ConfigError(
            f"{column}: given the message {message!r:.80}, allowed: a role among {', '.join(ROLES)}, and content."
        )
    kept = {key: value for key, value in message.items() if value is not None}
    return {**kept, "content": _text(message.get("content"), column, bool(kept.get("tool_calls")))}


def _text(content: Any, column: str, may_be_missing: bool) -> str:
    """A message's text, of which lists of text parts are another form."""
    if isinstance(content, str):
        return content
    if content is None and may_be_missing:
        return ""
    if not isinstance(content, list) or not content:
        raise ConfigError(f"{column}: given the content {content!r:.80}, allowed: a text, or a list of text parts.")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ConfigError(f"{column}: given the part {part!r:.80}, allowed: {{type: text, text: …}}.")
    return "".join(part["text"] for part in content)


def _ground_truth(record: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    if "ground_truth" in columns:
        return _need(record, columns["ground_truth"], "ground_truth")
    given = record.get("reward_model")
    if not isinstance(given, dict) or "ground_truth" not in given:
        there = ", ".join(map(str, record))
        raise ConfigError(
            f"has no reward_model.ground_truth. Its columns: {there}. Say data.columns={{ground_truth: COLUMN}}."
        )
    return given["ground_truth"]


def _extra_info(record: Mapping[str, Any], number: int, used: set[str]) -> dict[str, Any]:
    extra = record.get("extra_info")
    if not isinstance(extra, dict | None):
        raise ConfigError(f"extra_info: given {extra!r:.80}, allowed: a mapping.")
    others = {name: value for name, value in record.items() if name not in {*OF_VERL, *MEDIA, *used}}
    found = {**others, **(extra or {})}
    index = found.get("index")
    return {**found, "index": number if index is None else index}
