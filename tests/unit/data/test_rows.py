"""A row as people have it becomes the row that verl gets, or is refused by what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.data.rows import LAST_ROLES, ROLES, make_row
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

ROW = {"data_source": "sums", "prompt": [{"role": "user", "content": "1+1"}], "reward_model": {"ground_truth": "2"}}
USER = [{"role": "user", "content": "1+1"}]


def made(columns: dict[str, str] | None = None, **changed: Any) -> dict[str, Any]:
    return make_row({**ROW, **changed}, 3, columns or {}, "file")


@given(st.lists(st.tuples(st.sampled_from(ROLES), st.text()), max_size=4), st.sampled_from(LAST_ROLES))
def test_a_row_in_verls_schema_stays_as_it_is(turns: list[tuple[str, str]], last: str) -> None:
    prompt = [*({"role": role, "content": text} for role, text in turns), {"role": last, "content": "1+1"}]
    assert made(prompt=prompt, extra_info={"index": 9, "more": 1}) == {
        "data_source": "sums",
        "prompt": prompt,
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 9, "more": 1, **({"prefill": "1+1"} if last == "assistant" else {})},
    }


def test_an_answer_that_was_begun_is_told_to_rewards() -> None:
    parts = [{"type": "text", "text": "The "}, {"type": "text", "text": "sum"}]
    row = made(prompt=[*USER, {"role": "assistant", "content": parts}], agent_name="single_turn_agent")
    assert row["prompt"][-1] == {"role": "assistant", "content": "The sum"}
    assert row["extra_info"]["prefill"] == "The sum"
    assert "prefill" not in made(prompt=USER)["extra_info"]


def test_plain_text_is_what_the_user_says() -> None:
    assert made(prompt="1+1")["prompt"] == USER


def test_text_parts_are_a_text() -> None:
    parts = [{"type": "text", "text": "1+"}, {"type": "text", "text": "1"}]
    assert made(prompt=[{"role": "user", "content": parts}])["prompt"] == USER


def test_columns_may_have_other_names() -> None:
    record = {"question": "1+1", "answer": "2", "set": "gsm8k", "level": 4}
    columns = {"prompt": "question", "ground_truth": "answer", "data_source": "set"}
    assert make_row(record, 3, columns, "file") == {
        "data_source": "gsm8k",
        "prompt": USER,
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"answer": "2", "level": 4, "index": 3, "prompt_is_text": True},
    }


@pytest.mark.parametrize("missing", [{"data_source": None}, {"data_source": ""}])
def test_a_row_without_a_data_source_gets_the_files_name(missing: dict[str, Any]) -> None:
    assert made(**missing)["data_source"] == "file"


@pytest.mark.parametrize("truth", [None, ["2", "two"], 2, 2.5, {"a": 1}])
def test_a_ground_truth_of_any_type_is_handed_on(truth: Any) -> None:
    found = made(reward_model={"ground_truth": truth})["reward_model"]
    assert found == {"style": "model" if truth is None else "rule", "ground_truth": truth}


def test_extra_info_may_be_null() -> None:
    assert made(extra_info=None)["extra_info"] == {"index": 3}


def test_a_message_keeps_what_else_it_has() -> None:
    prompt = [
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]},
        {"role": "tool", "content": "4", "tool_calls": None},
    ]
    assert made(prompt=prompt)["prompt"] == [
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]},
        {"role": "tool", "content": "4"},
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": ""}, "prompt: given '', allowed: a list of messages, or a text"),
        ({"prompt": []}, r"prompt: given \[\], allowed: a list of messages"),
        ({"prompt": None}, "prompt: given None, allowed"),
        ({"prompt": ["1+1"]}, "prompt: given the message '1.1', allowed: a role among system"),
        ({"prompt": [{"role": "human", "content": "1"}]}, "role among system"),
        ({"prompt": [{"role": "user", "content": " "}]}, "given an empty last message"),
        ({"prompt": [{"role": "user", "content": None}]}, "given the content None"),
        (
            {"prompt": [*USER, {"role": "system", "content": "The"}]},
            "last message of role 'system', allowed: user, tool or",
        ),
        ({"prompt": [*USER, {"role": "assistant", "content": " "}]}, "given an empty last message"),
        ({"prompt": [*USER, {"role": "assistant", "tool_calls": [{"name": "f"}]}]}, "last message that calls tools"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image"}]}]},
            "given the part .*image.*, allowed: {type: text",
        ),
        ({"images": [b"1"]}, "images: given some, allowed: text only"),
        ({"reward_model": {"style": "rule"}}, "has no reward_model.ground_truth.*data.columns={ground_truth: COLUMN}"),
        ({"reward_model": None}, "has no reward_model.ground_truth"),
        ({"extra_info": '{"a": 1}'}, "extra_info: given .*, allowed: a mapping"),
        ({"data_source": 3}, "data_source: given 3, allowed: a name"),
    ],
)
def test_what_the_model_or_a_reward_would_see_otherwise_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**changed)


@pytest.mark.parametrize("field", ["prompt", "ground_truth", "data_source"])
def test_a_column_that_is_named_must_be_there(field: str) -> None:
    with pytest.raises(ConfigError, match=r"has no column question. Its columns: data_source, prompt, reward_model."):
        made({field: "question"})
