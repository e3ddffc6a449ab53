"""A tool's every way to go wrong is a text for the model and a cause that is counted; the next call goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.agent import AgentConfig
from mrpo.errors import ConfigError
from mrpo.tools.pool import Answer, ToolPool

pytestmark = pytest.mark.unit

TOOLS = '''
import os

def look_up(word: str, *, book: dict) -> dict:
    """Look a word up.

    Args:
        word: The word.
        book: Where.
    """
    print("asked for", word)
    if word == "hang":
        while True:
            pass
    if word == "die":
        os._exit(3)
    return {word: book[word]}

async def later(text: str) -> str:
    """Say a text.

    Args:
        text: The text.
    """
    return text * 1000
'''
BOOK = {"book": {"a": 1}}


def answers(folder: Path, *calls: tuple[str, str], **settings: Any) -> list[Answer]:
    (folder / "tools.py").write_text(TOOLS)
    agent = AgentConfig(loop="tool_agent", tools=["tools.py:look_up", "tools.py:later"], tool_timeout=0.5, **settings)

    async def ask() -> list[Answer]:
        pool = ToolPool(agent, folder, folder / "tools.log")
        try:
            return [await pool.call(name, given, BOOK, ["look_up", "later"]) for name, given in calls]
        finally:
            await pool.close()

    return asyncio.run(ask())


def test_results_and_failures_are_texts_with_a_cause(tmp_path: Path) -> None:
    words = ["a", "b", "hang", "die", "a"]
    calls = [("look_up", json.dumps({"word": word})) for word in words]
    calls += [("look_up", "{"), ("look_up", "[1]"), ("look_up", "{}"), ("look_up", '{"word": "a", "book": {}}')]
    calls += [("forget", "{}"), ("later", '{"text": "ab"}')]
    found = answers(tmp_path, *calls, max_tool_response_length=1500)
    assert [answer.failure for answer in found] == [
        *(None, "exception", "timeout", "crash", None),
        *("arguments",) * 4,
        *("unknown tool", None),
    ]
    assert [answer.text for answer in found[:5]] == [
        '{"a": 1}',
        "Error: KeyError: 'b'",
        "Error: look_up took longer than 0.5 s",
        "Error: look_up has ended its process",
        '{"a": 1}',
    ]
    assert "missing a required argument: 'word'" in found[7].text
    assert "unexpected keyword argument 'book'" in found[8].text  # the row's, which the model isn't told of
    assert found[9].text == "Error: there is no tool 'forget'. Tools: look_up, later"
    assert found[10].text == "ab" * 375 + "...(truncated)..." + "ab" * 375
    assert (tmp_path / "tools.log").read_text().splitlines() == [f"asked for {word}" for word in words]


def test_a_text_of_several_pieces_comes_back_whole(tmp_path: Path) -> None:
    ((text, failure),) = answers(tmp_path, ("later", '{"text": "0123456789"}'), max_tool_response_length=32_000)
    assert (text, failure) == ("0123456789" * 1000, None)


def test_tools_that_do_not_load_are_named_before_a_rollout_needs_them(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("import nowhere\ndef a(): ...\n")
    with pytest.raises(ConfigError, match="No module named 'nowhere'"):
        ToolPool(AgentConfig(loop="tool_agent", tools="tools.py:a"), tmp_path).require_loadable()
