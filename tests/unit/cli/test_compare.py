"""``mrpo compare`` as it is called."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mrpo.cli.main import invoke
from mrpo.errors import ConfigError
from tests.unit.compare.runs import write_run

pytestmark = pytest.mark.unit


def test_runs_that_are_there_leave_table_figure_page_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = []
    for n, name in enumerate(("a", "<b>|c")):
        for seed in range(2):
            folder = write_run(tmp_path / f"{n}-{seed}", {"correct": [0.1, 0.2 + n], "short": [1.0, 0.5 - n]}, seed)
            words.append(f"{name}={folder}")
    broken = write_run(tmp_path / "broken", {"correct": [0.9]}, end="failed")
    out = tmp_path / "out"
    options = ["--out", str(out), "--target", "correct=0.2", "--pareto", "correct,short", "--per", "rollouts"]
    assert invoke(["compare", *words, str(broken), *options]) == 0
    shown = capsys.readouterr().out
    assert "0.200 [0.200, 0.200]" in shown
    assert "+1.000 [+1.000, +1.000]" in shown
    assert "too few seeds" in shown
    assert "16 rollouts" in shown
    assert "Pareto front of correct and short: a, <b>|c" in shown
    assert "broken: left out, failed after step 1 (out of memory)" in shown
    assert sorted(file.name for file in out.iterdir()) == [
        *("compare.csv", "compare.html", "compare.json", "compare.md", "compare.png", "curves.csv", "runs.csv")
    ]
    content = json.loads((out / "compare.json").read_text())
    assert (content["axis"], content["end"], content["baseline"]) == ("rollouts", 16, "a")
    assert [line["group"] for line in content["lines"][:2]] == ["a", "<b>|c"]
    rows = list(csv.DictReader((out / "compare.csv").open()))
    assert float(rows[1]["difference"]) == pytest.approx(1.0)
    assert [float(row["final"]) for row in csv.DictReader((out / "runs.csv").open())][:4] == [0.2, 0.2, 1.2, 1.2]
    page = (out / "compare.html").read_text()
    assert "&lt;b&gt;|c" in page
    assert "<b>|c" not in page
    assert "http" not in page
    assert "| <b>\\|c |" in (out / "compare.md").read_text()


def test_one_run_of_one_seed_is_a_comparison_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "only", {"correct": [-0.5]})
    assert invoke(["compare", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "-0.500" in shown
    assert "change" not in shown


def test_a_dry_run_has_a_line_for_each_cell_and_says_once_what_all_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recipe=quickstart", "algorithm.estimator=grpo,gdpo", "trainer.test_freq=5", "seed=0"]
    assert invoke(["compare", *words, "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "estimator=grpo new algorithm.estimator=grpo" in shown
    assert "estimator=gdpo new algorithm.estimator=gdpo" in shown
    assert "all: recipe=quickstart trainer.test_freq=5 seed=0" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run: none given"),
        (["x", "--target", "correct"], "--target: given 'correct', allowed: NAME=VALUE"),
        (["x", "--target", "correct=high"], "--target: given 'high' for correct, allowed: a number"),
        (["x", "--pareto", "a"], "--pareto: given 'a', allowed: two rewards"),
        (["x", "--per", "hours"], "--per: unknown axis 'hours'"),
        (["nowhere"], "unknown name 'nowhere'"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        invoke(["compare", *arguments])
