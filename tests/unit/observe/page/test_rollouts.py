"""A run's rollouts as columns: every number exact, missing ones told apart, texts as far as there is room."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.observe.page import rollouts, texts
from mrpo.observe.page.columns import unpack
from mrpo.observe.page.rollouts import Part, RolloutReader, Table, read_part, table_of
from mrpo.observe.page.texts import read_block
from mrpo.record import token_file
from mrpo.record.jsonl import CorruptLineError
from mrpo.record.run_folder import RunFolder
from mrpo.record.token_file import RolloutTokens

from ..runs import new_run

pytestmark = pytest.mark.unit
SCORES = st.dictionaries(st.sampled_from("abc"), st.none() | st.floats(allow_nan=False, allow_infinity=False))


def row(uid: str, sample: int, **more: Any) -> dict[str, Any]:
    return {"uid": uid, "sample": sample, "rewards": {"a": 1.0}, "response": f"{uid} says {sample}"} | more


def column(table: Table, name: str) -> list[Any]:
    return list(unpack(table.values["columns"][name]))


def scores(table: Table, name: str) -> list[float | None]:
    values = unpack(table.values["scores"][table.values["rewards"].index(name)])
    return [None if value != value else value for value in values]


def read(*folders: RunFolder, max_texts: int = 10**9) -> Table:
    return table_of(RolloutReader(max_texts).read(folders))


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), SCORES), max_size=8), min_size=1, max_size=3))
def test_scores_are_exact_by_row_and_reward(steps: list[list[tuple[int, dict[str, float | None]]]]) -> None:
    parts, expected = [], []
    for step, records in enumerate(steps):
        part = Part(step, is_validation=False)
        for sample, (prompt, given_scores) in enumerate(records):
            part.add({"uid": f"p{prompt}", "sample": sample, "rewards": given_scores, "advantage": sample / 3})
            expected.append((step, f"p{prompt}", sample, given_scores))
        parts.append(part)
    table = table_of([parts])
    assert table.values["rows"] == len(expected)
    uids = [table.values["uids"][place] for place in column(table, "uid")]
    found = list(zip(column(table, "step"), uids, column(table, "sample"), strict=True))
    assert found == [of[:3] for of in expected]
    for name in table.values["rewards"]:
        assert scores(table, name) == [of[3].get(name) for of in expected]
    assert column(table, "advantage") == [of[2] / 3 for of in expected]


def test_rewards_keep_the_order_in_which_the_run_names_them(tmp_path: Path) -> None:
    folder, names = new_run(tmp_path), [f"reward {place}" for place in range(20)]
    folder.write_rollouts(1, [row("p", 0, rewards=dict.fromkeys(names, 1.0))])
    assert read(folder).values["rewards"] == names


def test_failed_is_told_from_not_applicable_and_dropped_from_unknown(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    none = {"rewards": {"a": None, "b": None}}
    rows = [row("p", 0, **none, failures={"b": "timeout: late"}, keep=True), row("p", 1, **none, keep=False)]
    folder.write_rollouts(1, [*rows, row("p", 2, rewards={"a": 0.5, "b": 1})])
    table = read(folder)
    assert {table.values["rewards"][int(i)]: list(unpack(c)) for i, c in table.values["failed"].items()} == {
        "b": [1, 0, 0]
    }
    assert (scores(table, "a"), scores(table, "b")) == ([None, None, 0.5], [None, None, 1.0])
    assert column(table, "keep") == [1, 0, rollouts.UNKNOWN]
    assert [entry.get("failures") for entry in texts_of(table)] == [{"b": "timeout: late"}, None, None]


def texts_of(table: Table) -> list[dict[str, Any]]:
    return [found for block in table.blocks if block is not None for found in read_block(block)]


@pytest.mark.parametrize("strange", ["1e999", "-1e999", "NaN", '"text"', "true", "[]", "1" + "0" * 400])
def test_odd_scores_are_data(tmp_path: Path, strange: str) -> None:
    folder = new_run(tmp_path)
    folder.rollouts_file(3).write_text(
        f'{{"step": 3, "uid": 7, "sample": "x", "rewards": {{"a": {strange}, "b": 2}}, "advantage": {strange}}}\n'
        '{"step": 3, "uid": "p", "sample": 0, "rewards": null}\n'
    )
    table = read(folder)
    expected: dict[str, float] = {"1e999": float("inf"), "-1e999": float("-inf"), "1" + "0" * 400: float("inf")}
    assert scores(table, "a") == [expected.get(strange), None]
    assert scores(table, "b") == [2.0, None]
    assert table.values["uids"] == ["7", "p"]
    json.dumps(table.values, allow_nan=False)


def test_runs_and_validations_are_rows_of_their_own(tmp_path: Path) -> None:
    first, second = new_run(tmp_path), new_run(tmp_path)
    first.write_rollouts(2, [row("p", 0)])
    first.write_rollouts(1, [row("q", 0, rewards={"b": 2.0})])
    first.write_validation(0, [row("v", 0)])
    second.write_rollouts(1, [row("p", 0)])
    table = read(first, second)
    places = ("run", "validation", "step")
    assert list(zip(*(column(table, name) for name in places), strict=True)) == [
        (0, 0, 1), (0, 0, 2), (0, 1, 0), (1, 0, 1)
    ]  # fmt: skip
    assert (scores(table, "a"), scores(table, "b")) == ([None, 1.0, 1.0, 1.0], [2.0, None, None, None])
    assert [found["response"] for found in texts_of(table)] == ["q says 0", "p says 0", "v says 0", "p says 0"]
    assert list(unpack(table.values["starts"])) == [0, 1, 2, 3]


def test_texts_that_find_no_room_are_counted_and_the_newest_steps_have_theirs(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in range(1, 6):
        folder.write_rollouts(step, [row(f"p{step}", s, response=random_text(step, s)) for s in range(20)])
    everything = read(folder)
    size = sum(len(block) for block in everything.blocks if block)
    half = read(folder, max_texts=int(size * 0.65))
    assert half.values["withoutText"] == 40
    assert [block is not None for block in half.blocks] == [True, False, False, True, True]  # the first step, too
    assert half.values["columns"] == everything.values["columns"]
    assert read(folder, max_texts=0).values["withoutText"] == 100


def random_text(step: int, sample: int) -> str:
    import random

    return base64.b64encode(random.Random(step * 100 + sample).randbytes(300)).decode()


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, reader, seen = new_run(tmp_path), RolloutReader(), list[int]()

    def counted(path: Path, step: int, is_validation: bool, room: int, tokens: Path | None) -> Part:
        seen.append(step)
        return read_part(path, step, is_validation, room, tokens)

    monkeypatch.setattr(rollouts, "read_part", counted)
    folder.write_rollouts(1, [row("p", 0)])
    reader.read([folder])
    folder.write_rollouts(2, [row("p", 0)])
    reader.read([folder])
    folder.write_rollouts(1, [row("p", 0), row("p", 1)])
    assert table_of(reader.read([folder])).values["rows"] == 3
    folder.write_rollouts(2, [row("p", 0)], [tokens_of("p", 0)])
    token_file.write(folder.tokens_file(2), [tokens_of("p", 0), tokens_of("q", 0)])
    assert table_of(reader.read([folder])).values["rows"] == 3
    assert seen == [1, 2, 1, 2]


def tokens_of(uid: str, sample: int, n: int = 2) -> dict[str, Any]:
    return RolloutTokens([f"{uid}{sample}"] * n, [-0.5] * n, [1.0] * n, [True] * n).record(uid, sample)


def test_tokens_are_joined_to_their_rollouts_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "BLOCK", 2)
    folder = new_run(tmp_path)
    for step in (1, 2, 3):
        rows = [row(uid, sample) for uid in "ab" for sample in range(3)]
        tokens = [tokens_of("b", 2), tokens_of("a", 1), tokens_of("b", 0), tokens_of("gone", 0)] if step != 2 else []
        folder.write_rollouts(step, rows, tokens)
    table = read(folder)
    assert list(unpack(table.values["tokenRows"])) == [1, 3, 5, 13, 15, 17]
    assert list(unpack(table.values["tokenStarts"])) == [0, 2, 3, 5]
    shown = [found["pieces"][0] for block in table.tokens if block is not None for found in read_block(block)]
    assert shown == ["a1", "b0", "b2"] * 2
    assert column(table, "sample")[:6] == [0, 1, 2] * 2


def test_tokens_take_their_part_of_the_room(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in (1, 2):
        tokens = [tokens_of("p", 0) | {"pieces": [random_text(step, 0)] * 2}]
        folder.write_rollouts(step, [row("p", 0, response=random_text(step, 1))], tokens)
    size = sum(len(block) for block in (*read(folder).blocks, *read(folder).tokens) if block)
    half = read(folder, max_texts=size - 100)
    assert [block is not None for block in (*half.blocks, *half.tokens)] == [True, True, True, False]
    assert read(folder, max_texts=0).tokens == [None, None]
    assert list(unpack(read(folder, max_texts=0).values["tokenRows"])) == [0, 1]  # so that the page can say it


def test_when_a_run_grows_older_texts_make_room(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.write_rollouts(1, [row("p", 0)])
    folder.write_rollouts(2, [row("p", s, response=random_text(2, s)) for s in range(20)])
    reader = RolloutReader(12_000)
    assert table_of(reader.read([folder])).values["withoutText"] == 0
    folder.write_rollouts(3, [row("p", s, response=random_text(3, s)) for s in range(20)])
    table = table_of(reader.read([folder]))
    assert [block is not None for block in table.blocks] == [True, False, True]
    assert sum(len(block) for block in table.blocks if block) <= 12_000


def test_blocks_are_of_one_file_and_start_where_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "BLOCK", 4)
    folder = new_run(tmp_path)
    for step in (1, 2):
        folder.write_rollouts(step, [row(f"p{step}", sample) for sample in range(6)])
    table = read(folder)
    assert list(unpack(table.values["starts"])) == [0, 4, 6, 10]
    assert [found["response"] for found in texts_of(table)] == [
        f"p{step} says {s}" for step in (1, 2) for s in range(6)
    ]


def test_a_torn_last_line_is_no_rollout_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.write_rollouts(1, [row("p", 0)])
    with open(folder.rollouts_file(1), "a") as file:
        file.write('{"uid": "p", "sam')
    assert read(folder).values["rows"] == 1
    folder.rollouts_file(1).write_text("oops\n")
    with pytest.raises(CorruptLineError, match=r"rollouts/1\.jsonl:1: "):
        read(folder)
    assert table_of([[], []]).values["rows"] == 0
