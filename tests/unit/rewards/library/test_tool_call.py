"""ToolRL's correctness: worked by hand, best matching, and what can't be read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.config.check import check_reward
from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.library.tool_call import tool_call
from mrpo.rewards.rlla import DIALECTS
from tests.unit.rewards.library.rows import real_file, real_json

pytestmark = pytest.mark.unit

Calls = list[tuple[str, dict[str, Any]]]


def turn(calls: Calls) -> str:
    lines = "\n".join(json.dumps({"name": name, "parameters": parameters}) for name, parameters in calls)
    return f"<think> hm </think>\n<tool_call>\n{lines}\n</tool_call>"


def score(called: Calls, wanted: Calls) -> float | None:
    return tool_call([], turn(called), turn(wanted), {})


WEATHER = ("weather", {"city": "Paris", "days": 2})
NEWS = ("news", {"page": 1})


@pytest.mark.parametrize(
    ("called", "wanted", "expected"),
    [
        # S = 1 + 1 + 2 = 4
        ([WEATHER], [WEATHER], 3.0),
        # name 1, keys 2/2, values 1 of 2: 3/4
        ([("weather", {"city": "Rome", "days": 2})], [WEATHER], 1.5),
        # name 1, keys 1/2, values 1: 2.5/4
        ([("weather", {"city": "Paris"})], [WEATHER], 0.75),
        # name 1, keys 2/3, values 2: 11/12
        ([("weather", {"city": "Paris", "days": 2, "units": "C"})], [WEATHER], 2.5),
        # name 1, keys 0/3, values 0: 1/4
        ([("weather", {"units": "C"})], [WEATHER], -1.5),
        ([("wether", {"city": "Paris", "days": 2})], [WEATHER], -3.0),
        # S = 1 + 2 + 3 = 6: one of two names 1/2, then 1 + 2
        ([WEATHER], [WEATHER, NEWS], 0.5),
        # S = 3, one call too many: name 1/2, then 1 + 1: 2.5/3
        ([NEWS, NEWS], [NEWS], 2.0),
        # another tool too many: the same
        ([NEWS, ("joke", {})], [NEWS], 2.0),
        # S = 2: name 1, and no key on either side is 1
        ([("joke", {})], [("joke", {})], 3.0),
        # S = 2: name 1, keys 0/1
        ([("joke", {"about": "cats"})], [("joke", {})], 0.0),
        # S = 6. Taking partners one by one gives the first f the only fitting call, 1 + .5 + 1: 2.5/6. Best: 1 + 1 + 2
        ([("f", {"x": 1, "y": 2}), ("f", {"z": 3})], [("f", {"x": 1}), ("f", {"x": 1, "y": 2})], 1.0),
    ],
)
def test_by_hand(called: Calls, wanted: Calls, expected: float) -> None:
    assert score(called, wanted) == pytest.approx(expected, abs=1e-12)


def test_a_real_turn_with_the_same_tool_twice() -> None:
    """A row of ToolRL's test set (Apache-2.0). S = 1 + 3 + 4 = 8; with one of the twins left out, name 2/3, then 3 + 1
    and 1 + 1: 6⅔ of 8."""
    wanted: Calls = [
        ("generate_password", {"length": 10, "include_special": False}),
        ("is_valid_parentheses", {"s": "([{}])"}),
        ("is_valid_parentheses", {"s": "([)]"}),
    ]
    assert score(wanted[::-1], wanted) == pytest.approx(3)
    assert score(wanted[:2], wanted) == pytest.approx(6 * (2 / 3 + 3 + 2) / 8 - 3)


@pytest.mark.parametrize(
    ("given_value", "wanted_value", "same"),
    [
        ("naïve 日本", "naïve 日本", True),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, True),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": 0}]}, False),
        (1.0, 1, True),
        ("1", 1, False),
        (True, 1, False),
    ],
)
def test_values_are_the_same_as_json(given_value: Any, wanted_value: Any, same: bool) -> None:
    assert score([("f", {"x": given_value})], [("f", {"x": wanted_value})]) == pytest.approx(3.0 if same else 1.0)


@pytest.mark.parametrize(
    "response",
    [
        "",
        "It is sunny.",
        "<tool_call>\n</tool_call>",
        '<tool_call>\n{"name": "news", "parameters": {"page": 1}}',
        "<tool_call>\n{'name': 'news', 'parameters': {'page': 1}}\n</tool_call>",
        '<tool_call>\n{"name": "news"}\n</tool_call>',
        '<tool_call>\n{"name": "news", "parameters": [1]}\n</tool_call>',
        '<tool_call>\n{"name": "news", "parameters": {"page": 1}} {}\n</tool_call>',
        '<tool_call>\n["news"]\n</tool_call>',
        "<tool_call>\n" + "[" * 100_000 + "\n</tool_call>",
        '<think> <tool_call>\n{"name": "news", "parameters": {"page": 1}}\n</tool_call> </think>',
    ],
)
def test_calls_that_cant_be_read_are_worth_least(response: str) -> None:
    assert tool_call([], response, turn([NEWS]), {}) == -3


def test_a_tag_in_the_thought_and_blank_lines_dont_count() -> None:
    response = '<think>a <tool_call> then</think>\n<tool_call>\n\n{"name": "news", "parameters": {"page": 1}}\r\n'
    assert tool_call([], response + "\n</tool_call> <response>ok</response>", turn([NEWS]), {}) == pytest.approx(3)


TRUTH = """<think> t </think>
<tool_call>
{"name": "get", "parameters": {"page": 1}}
{"name": "now", "parameters": {}}
</tool_call>"""
HERMES = """<tool_call>
{"name": "get",
 "arguments": {"page": 1}}
</tool_call>
<tool_call>
{"name": "now", "arguments": {}}
</tool_call>"""
AS_TEXT = HERMES.replace('{"page": 1}', r'"{\"page\": 1}"').replace("{}", '"{}"')
ARRAY = '<tool_call>[{"name": "get", "parameters": {"page": 1}},\n {"name": "now", "arguments": {}}]</tool_call>'
PRETTY = TRUTH.replace('"get",', '\n "get",')
FENCE = PRETTY.replace("<tool_call>", "<tool_call>\n```json").replace("\n</tool_call>", "\n```\n</tool_call>")


@pytest.mark.parametrize(
    ("response", "dialects"),
    [
        (TRUTH, {"toolrl", "any"}),
        (HERMES, {"hermes", "any"}),
        (AS_TEXT, {"hermes", "any"}),
        (f"<think>{ARRAY}</think>{HERMES}", {"hermes", "any"}),
        (ARRAY, {"any"}),
        (FENCE, {"any"}),
        (PRETTY, {"any"}),
    ],
)
def test_calls_are_worth_most_in_their_dialect_and_least_in_another(response: str, dialects: set[str]) -> None:
    assert {d for d in DIALECTS if tool_call([], response, TRUTH, {}, dialect=d) == 3} == dialects
    assert {d for d in DIALECTS if tool_call([], response, TRUTH, {}, dialect=d) == -3} == set(DIALECTS) - dialects


@pytest.mark.parametrize(
    "content",
    [
        '{"name": "get", "arguments": {"page": 1}, "parameters": {"page": 2}}',
        '{"name": "get", "arguments": "[1]"}',
        '{"name": "get", "arguments": null}',
        '{"name": "get"}',
        '{"name": "get", "arguments": {"page": 1}} and',
        "",
    ],
)
def test_a_call_that_may_mean_several_things_or_none_is_worth_least(content: str) -> None:
    truth = '<tool_call>{"name": "get", "parameters": {"page": 1}}</tool_call>'
    response = f"<tool_call>{content}</tool_call>"
    assert tool_call([], response, truth, {}, dialect="any") == -3
    assert tool_call([], truth + "<tool_call>", truth, {}, dialect="any") == -3


@pytest.mark.parametrize("truth", [HERMES, AS_TEXT, ARRAY, f"<think> t </think>{HERMES}"])
def test_a_ground_truth_in_hermes_form_is_named_or_read(truth: str) -> None:
    with pytest.raises(ValueError, match=r"ground truth: calls as Hermes and Qwen write them .* dialect: hermes"):
        tool_call([], TRUTH, truth, {})
    assert tool_call([], HERMES, truth, {}, dialect="hermes") == 3


def test_there_are_three_dialects() -> None:
    for function in ("tool_call", "tool_format"):
        with pytest.raises(ConfigError, match=r"unknown dialect 'hermse'. Did you mean 'hermes'"):
            check_reward("rewards.x", RewardConfig(function=function, options={"dialect": "hermse"}), Path())
    with pytest.raises(ValueError, match="hermse"):
        tool_call([], TRUTH, TRUTH, {}, dialect="hermse")


def test_it_isnt_applicable_where_no_tool_is_wanted() -> None:
    assert tool_call([], turn([NEWS]), "<think> hm </think>\n<response> Hello! </response>", {}) is None


@pytest.mark.parametrize(
    "truth", [None, "news", turn([]), "<think>a</think><tool_call>{}</tool_call>", "<think>a</think><tool_call>{"]
)
def test_a_ground_truth_that_cant_be_read_raises(truth: Any) -> None:
    with pytest.raises(ValueError, match="ground truth"):
        tool_call([], turn([NEWS]), truth, {})


parameters = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2), max_size=3)
calls = st.lists(st.tuples(st.sampled_from(["f", "g"]), parameters), min_size=1, max_size=4)


@settings(deadline=None)
@given(calls, calls, st.randoms(use_true_random=False))
def test_neither_order_counts_and_the_bounds_hold(called: Calls, wanted: Calls, random: Any) -> None:
    before = score(called, wanted)
    assert before is not None
    assert -3 <= before <= 3
    random.shuffle(called)
    random.shuffle(wanted)
    assert score(called, wanted) == pytest.approx(before, abs=1e-12)


@settings(deadline=None)
@given(calls, calls)
def test_the_matching_is_the_best_of_all(called: Calls, wanted: Calls) -> None:
    def worth(p: tuple[str, dict[str, int]] | None, g: tuple[str, dict[str, int]]) -> float:
        if p is None or p[0] != g[0]:
            return 0.0
        union = p[1].keys() | g[1].keys()
        keys = len(p[1].keys() & g[1].keys()) / len(union) if union else 1.0
        return keys + sum(p[1].get(key) == value for key, value in g[1].items())

    partners = [*called, *([None] * len(wanted))]
    best = max(sum(map(worth, order, wanted)) for order in itertools.permutations(partners, len(wanted)))
    both = sum(min([n for n, _ in called].count(name), [n for n, _ in wanted].count(name)) for name in "fg")
    most = 1 + len(wanted) + sum(len(p) for _, p in wanted)
    share = (both / (len(called) + len(wanted) - both) + best) / most
    assert score(called, wanted) == pytest.approx(6 * share - 3, abs=1e-9)


@settings(deadline=None)
@given(calls)
def test_the_ground_truth_itself_is_worth_most_and_nothing_else_is(wanted: Calls) -> None:
    assert score(wanted, wanted) == pytest.approx(3)
    assert score([*wanted, ("h", {})], wanted) < 3  # type: ignore[operator]


def test_real_ground_truths_are_worth_most() -> None:
    rows = pd.read_parquet(real_file("toolrl/dataset/rlla_4k/test.parquet"))
    raw = real_json("toolrl/dataset/rlla_4k_raw/rlla_sft.json")
    truths = [row["ground_truth"] for row in rows["reward_model"]] + [row["output"] for row in raw]
    scores = [tool_call([], truth, truth, {}) for truth in truths]
    assert sum(score is not None for score in scores) > 0.8 * len(truths)
    assert {round(score, 9) for score in scores if score is not None} == {3.0}
