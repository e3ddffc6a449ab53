"""Grids: which cells a command line and a grid's file stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.compare.equal import EqualBudget
from mrpo.compare.grid import cells_of
from mrpo.config.overrides import as_override, expand, parse
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


def test_commas_sweep_and_a_list_in_brackets_is_one_value() -> None:
    cells = cells_of(["recipe=quickstart", "a=1,2", "b=[1,2]", "c='x,y'", "seed=0,1"])
    assert [cell.name for cell in cells] == ["a=1,seed=0", "a=2,seed=0", "a=1,seed=1", "a=2,seed=1"]
    assert cells[0].overrides == ("recipe=quickstart", "a=1", "b=[1,2]", "c='x,y'", "seed=0")
    assert expand("a=[1,2],[3]") == ["a=[1,2]", "a=[3]"]


def test_a_file_has_lists_of_values_and_may_be_several_grids(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(
        "actor.learning_rate: [1e-4, 1e-5]\ndata: {train_files: [[a, b]]}\nrewards.x: [null, {weight: 0.5}]\n"
    )
    cells = cells_of(["recipe=r", str(file), "seed=7"])
    assert [cell.overrides[2:] for cell in cells] == [
        (f"actor.learning_rate={rate}", "data.train_files=['a','b']", f"rewards.x={x}")
        for rate in ("0.0001", "1e-05")
        for x in ("null", "{weight:0.5}")
    ]
    file.write_text("- {a: 1, b: 0}\n- {a: 0, b: [1, 2]}\n")
    assert [cell.name for cell in cells_of(["recipe=r", str(file)])] == ["a=1,b=0", "a=0,b=1", "a=0,b=2"]


@pytest.mark.parametrize(
    "value", [0, -1.5, 1e-07, True, None, "0", "null", "a,b", "it's", "${x}", [1, ["a"]], {"k": "v w"}]
)
def test_a_value_of_yaml_comes_back_from_the_override(value: object) -> None:
    parsed = parse(as_override("key", value)).value()
    assert parsed == value or (value == "${x}" and parsed == "\\${x}")  # an escape, for OmegaConf
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recipe=r", "seed=0,0"], "two cells would be called"),
        (["recipe=r", "seed=0", "seed=1"], "grid: seed is given twice"),
        (["recipe=r", "run_dir=x"], "run_dir: is decided by --out"),
        (["recipe=r", "a=interval(0,1)"], "a: given 'a=interval"),
        (["recipe=r", "nowhere.yaml"], "grid: given 'nowhere.yaml', which can't be used: No such file"),
        (["recipe=r", "word"], "override: given 'word'"),
    ],
)
def test_bad_grids_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        cells_of(words)


@pytest.mark.parametrize("content", ["", "[]", "- 1", "a: []", "a: [1"])
def test_bad_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match="grid: "):
        cells_of(["recipe=r", str(file)])


@pytest.mark.parametrize("text", ["rollouts", "hours=3", "tokens=0", "tokens=-1", "tokens=1.5", "seconds=²"])
def test_bad_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--budget: given"):
        EqualBudget.parse(text)
