"""``mrpo evaluate`` with something wrong: one message, exit code 2, nothing started."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from rich.console import Console

from mrpo.checkpoint.store import CheckpointStore
from mrpo.cli._evaluate import split
from mrpo.cli._evaluation_table import show
from mrpo.cli.main import invoke
from mrpo.errors import ConfigError
from mrpo.evaluation.compare import compare
from tests.unit.checkpoint.checkpoints import publish

pytestmark = pytest.mark.unit

CONFIG = """
recipe: quickstart
model: {path: policy}
data: {train_files: [a.parquet], val_files: [nowhere.parquet], train_batch_size: 4}
rewards: {short: {function: "rewards.py:short"}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "a.parquet").touch()
    (tmp_path / "config.yaml").write_text(CONFIG.replace("a.parquet", str(tmp_path / "a.parquet")))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["step="], "step: given '', allowed: the number"),
        (["step=first"], "step: given 'first', allowed: the number of a checkpoint's step, last or best"),
        (["--json", "nowhere/scores.json"], "--json: given nowhere/scores.json, allowed"),
        (["trainer.nnods=2"], "Did you mean 'nnodes'?"),
        ([], r"data.val_files\[0\]: no such file: nowhere.parquet"),
    ],
)
def test_it_says_what_is_wrong(run: Path, arguments: list[str], tells: str) -> None:
    with pytest.raises(ConfigError, match=tells):
        invoke(["evaluate", str(run), *arguments])


def test_a_run_without_a_checkpoint_has_nothing_to_evaluate(run: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        invoke(["evaluate", str(run), f"data.val_files=[{run / 'a.parquet'}]"])
    assert not (run / "evaluations").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for word in (str(tmp_path / "nowhere"), str(tmp_path), "owner/model"):
        with pytest.raises(ConfigError, match=r"belongs to no run|not a run's folder"):
            invoke(["evaluate", word])


def test_a_word_that_is_neither_a_run_nor_a_path_names_the_runs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match="Did you mean 'mine'"):
        invoke(["evaluate", "mien"])
    with pytest.raises(ConfigError, match="target: none given"):
        invoke(["evaluate"])


def test_all_targets_are_checked_before_anything_starts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, one message, and no folder: whichever of the targets is wrong."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    store = CheckpointStore(run / "checkpoints")
    publish(store, 2)
    files = f"data.val_files=[{run / 'a.parquet'}]"
    for wrong in ("nowhere", str(run / "rollouts"), "base"):  # the base model of this run isn't a folder here
        with pytest.raises(ConfigError) as refused:
            invoke(["evaluate", str(run), wrong, files])
        assert refused.value.exit_code == 2
        assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="'step 2' is given twice"):
        invoke(["evaluate", str(run), str(run / "checkpoints" / "step-00000002"), files])
    assert not (run / "evaluations").exists()
    with pytest.raises(ConfigError, match="step: given 3, allowed: the step of a checkpoint"):
        invoke(["evaluate", str(run), "step=3", files])


def test_words_are_targets_or_overrides() -> None:
    words = ["latest", "step=3", "owner/model", "~rewards.short", "+data.x=1", "a/b=c/d", "./x", "++verl.data.y=[1,2]"]
    targets, overrides = split(words)
    assert targets == ["latest", "owner/model", "./x"]
    assert overrides == ["step=3", "~rewards.short", "+data.x=1", "a/b=c/d", "++verl.data.y=[1,2]"]


def row(uid: str, correct: float | None, **more: Any) -> dict[str, Any]:
    return {"uid": uid, "sample": 0, "data_source": "math", "rewards": {"correct": correct}, "tokens": 4, **more}


def test_the_table_says_who_is_better_by_how_much_and_never_cuts_a_number_off() -> None:
    base = [row(f"{n}", 0.0) for n in range(8) for _ in range(2)]
    trained = [row(f"{n}", float(n > 1)) for n in range(8) for _ in range(2)]
    trained[0] = row("0", None, failures={"correct": "timeout: 60 s"})
    lines = compare({"base of a rather long name": base, "step 7": trained}, {"correct": None}, 10)
    out = io.StringIO()
    show(Console(file=out, width=60), lines)
    shown = out.getvalue()
    assert "math: 8 prompts, 16 responses of each model" in shown
    assert "pass@2" in shown
    # Every interval is whole though the terminal is narrow.
    assert re.search(r"0\.750 \[0\.\d{3}, 1\.000\]\s+\+0\.750\* \[\+0\.\d{3}, \+1\.000\]", shown)
    assert "…" not in shown
    assert "correct failed in 1 responses of step 7 to math" in shown


def test_a_reward_that_doesnt_apply_to_a_data_source_is_a_dash_there() -> None:
    def rows(of_code: float) -> list[dict[str, Any]]:
        code = {"data_source": "code", "rewards": {"right": None, "passes": of_code}}
        return [row("a", None, rewards={"right": 1.0, "passes": None}), row("b", None, **code)]

    out = io.StringIO()
    lines = compare({"base": rows(0.0), "step 7": rows(1.0)}, {"right": (0.0, 1.0), "passes": None}, 10)
    show(Console(file=out, width=100), lines)
    cells = [line.split() for line in out.getvalue().splitlines() if line.split()[:1] in (["right"], ["passes"])]
    assert cells == [
        ["right", "base", "–", "–"], ["passes", "base", "0.000", "–"],
        ["right", "base", "1.000", "–"], ["passes", "base", "–", "–"],
    ]  # fmt: skip
    assert "failed" not in out.getvalue()


def test_a_single_model_has_no_change() -> None:
    out = io.StringIO()
    show(Console(file=out, width=100), compare({"step 7": [row("a", 1.0), row("b", 0.5)]}, {"correct": None}, 10))
    assert "change" not in out.getvalue().lower()
