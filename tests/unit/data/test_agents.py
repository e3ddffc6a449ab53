"""Rows whose agent can't do what they ask for are refused before a run, and tools are part of what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrpo.data.cached import folder_of
from mrpo.data.check import Job, check
from mrpo.errors import ConfigError
from mrpo.prepare.tiny_model import byte_tokenizer

pytestmark = pytest.mark.unit

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}:{% endif %}"
)
TOOL = '''
def {name}(word: str, *, book: str) -> str:
    """Look up.

    Args:
        word: It.
        book: Where.
    """
    return book
'''
USER = [{"role": "user", "content": "hi"}]
BOOK = {"look_up": {"book": "b"}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer([]).save_pretrained(folder)
    return folder


def job(folder: Path, tokenizer: Path, *rows: dict[str, Any], **changes: Any) -> Job:
    (folder / "tools.py").write_text(TOOL.format(name="look_up"))
    rows = rows or ({"extra_info": {"tools_kwargs": BOOK}},)
    whole = [{"prompt": USER, "reward_model": {"ground_truth": ""}, **row} for row in rows]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, whole)))
    return Job(
        files={"data.train_files[0]": str(folder / "a.jsonl")},
        columns={},
        overlong="refuse",
        max_prompt_length=1000,
        train_batch_size=1,
        tokenizer=str(tokenizer),
        template=TEMPLATE,
        template_options={},
        trust_remote_code=False,
        recipe_folder=str(folder),
        **{"agents": ("tool_agent", "single_turn_agent"), "tools": ("tools.py:look_up",), **changes},
    )


def test_a_prompt_is_counted_with_the_tools_that_it_offers(tmp_path: Path, tokenizer: Path) -> None:
    rows = {"extra_info": {"tools_kwargs": BOOK}}, {"agent_name": "single_turn_agent"}
    with_tools, without = check(job(tmp_path, tokenizer, *rows), tmp_path).files[0].prompts
    assert without == "hi:"
    assert json.loads(with_tools.removesuffix("hi:"))[0]["function"]["parameters"]["properties"] == {
        "word": {"type": "string", "description": "It."}
    }


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (
            {"agent_name": "tool_agnt"},
            {},
            "row 1: agent_name: unknown agent loop 'tool_agnt'. Did you mean 'tool_agent'",
        ),
        ({"agent_name": "tool_agent"}, {"tools": ()}, "agent_name: given tool_agent, and there are no tools"),
        ({}, {}, "extra_info.tools_kwargs.look_up: lacks book"),
        ({"extra_info": {"tool_selection": ["look"]}}, {}, "extra_info.tool_selection: unknown tool 'look'"),
        ({"extra_info": {"turns": 3, "tools_kwargs": BOOK}}, {}, "extra_info.turns: given beside the agent tool_agent"),
        (
            {"prompt": [*USER, {"role": "assistant", "content": "The"}]},
            {},
            "agent_name: given 'tool_agent' with a last message of the assistant, allowed: single_turn_agent",
        ),
    ],
)
def test_a_row_that_its_agent_cannot_serve_is_refused(
    tmp_path: Path, tokenizer: Path, row: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(job(tmp_path, tokenizer, row, **changes), tmp_path)


def test_rows_are_made_anew_when_a_tool_changes(tmp_path: Path, tokenizer: Path) -> None:
    given = job(tmp_path, tokenizer)
    before = folder_of(given)
    (tmp_path / "tools.py").write_text(TOOL.format(name="look_up").replace("Look up.", "Look it up."))
    assert folder_of(given) != before
