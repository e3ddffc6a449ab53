"""Rows in verl's schema: what is built, what is refused, what is written and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mrpo.errors import ConfigError
from mrpo.prepare.rows import check, first_of_each, make_row, select, write

pytestmark = pytest.mark.unit

GOOD = make_row("x", "question", "1", index=0)


def test_a_row_has_verls_schema() -> None:
    assert make_row("sums", "1 + 1?", "2", index=3, split="test") == {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 3, "split": "test"},
    }


def test_messages_are_taken_as_they_are_without_their_other_keys() -> None:
    messages = [{"role": "system", "content": "s", "name": "n"}, {"role": "user", "content": "u"}]
    assert make_row("x", messages, None, index=0)["prompt"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
    ]


def test_a_prompt_that_models_judge_needs_no_ground_truth() -> None:
    row = make_row("x", "question", None, index=0)
    assert row["reward_model"] == {"style": "model", "ground_truth": ""}
    check([row], "f.parquet")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data_source": ""}, "data_source"),
        ({"data_source": None}, "data_source"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "question"}, "prompt"),
        ({"prompt": [{"role": "user", "content": " "}]}, "prompt"),
        ({"prompt": [{"role": "human", "content": "q"}]}, "prompt"),
        ({"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, "prompt"),
        ({"prompt": ["question"]}, "prompt"),
        ({"reward_model": {"ground_truth": 3}}, "reward_model.ground_truth"),
        ({"reward_model": {"style": "rule", "ground_truth": ""}}, "reward_model.ground_truth"),
        ({"reward_model": None}, "reward_model.ground_truth"),
        ({"extra_info": {}}, "extra_info.index"),
        ({"extra_info": None}, "extra_info.index"),
    ],
)
def test_a_wrong_row_is_named_with_its_field(change: dict[str, Any], field: str, tmp_path: Path) -> None:
    wrong: Any = {**GOOD, **change}
    with pytest.raises(ConfigError, match=rf"f.parquet: row 1 \(.*\): {field}: given .*, allowed: "):
        write([GOOD, wrong], tmp_path / "f.parquet")
    assert not list(tmp_path.iterdir())


def test_no_data_source_has_an_index_twice() -> None:
    with pytest.raises(ConfigError, match=r"row 1 \(x 0\): extra_info.index: given 0 a second time"):
        check([GOOD, GOOD], "f.parquet")
    check([GOOD, make_row("y", "question", "1", index=0)], "f.parquet")


def test_a_file_without_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"f.parquet: no row is left"):
        check([], "f.parquet")


def test_what_is_written_is_counted_by_source_with_what_was_dropped_or_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [GOOD, make_row("x", "question", "2", index=1), make_row("y", "another", "2", index=0)]
    write(rows, tmp_path / "f.parquet", dropped={"no answer": 4})
    assert capsys.readouterr().out.splitlines() == [
        "f.parquet: 2 of x",
        "f.parquet: 1 of y",
        "f.parquet: 4 dropped: no answer",
        "f.parquet: 1 with the prompt of another row",
    ]
    read = pd.read_parquet(tmp_path / "f.parquet").to_dict("records")
    assert [{**row, "prompt": list(row["prompt"])} for row in read] == rows


def test_rows_with_a_problem_are_dropped_and_counted_by_it() -> None:
    rows = [make_row("x", "q", truth, index=i) for i, truth in enumerate(["1", "", "2", "", "?"])]

    def problem(row: Any) -> str:
        return {"": "empty", "?": "unknown"}.get(row["reward_model"]["ground_truth"], "")

    kept, dropped = select(rows, problem)
    assert kept == [rows[0], rows[2]]
    assert dropped == {"empty": 2, "unknown": 1}


def test_the_first_rows_of_each_source_are_taken_in_their_order() -> None:
    rows = [make_row(source, "q", "1", index=i) for i, source in enumerate("abaabb")]
    assert [row["extra_info"]["index"] for row in first_of_each(rows, 2)] == [0, 2, 1, 4]
