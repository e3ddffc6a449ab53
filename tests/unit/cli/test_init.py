"""``mrpo init``: the recipe that it leaves is one that ``mrpo plan`` takes; what it can't make leaves nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrpo.cli.main import invoke
from mrpo.config.checked_run import CheckedRun
from mrpo.config.load import load_run_config
from mrpo.config.new_recipe import NewRecipe
from mrpo.data.files import read_records
from mrpo.errors import ConfigError
from mrpo.prepare.tiny_model import byte_tokenizer, save, tiny_qwen2
from mrpo.record import jsonl
from mrpo.rewards.function import load_function

pytestmark = pytest.mark.unit

HUB = "somebody/a-model-that-is-not-here"
ROWS = ["--data", "rows.jsonl", "--model", HUB]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty rows of a question and an answer in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))
    jsonl.replace(tmp_path / "rows.jsonl", ({"question": f"{n}+1", "answer": n + 1, "id": n} for n in range(30)))
    return tmp_path / "rows.jsonl"


def init(*arguments: str) -> int:
    return invoke(["init", *arguments])


def test_columns_are_found_rows_held_out_and_the_recipe_passes_plan(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = "short={function: length, options: {kind: cap, cap: 20}, weight: 0.5}"
    assert init("mine", "--data", "rows.jsonl", "--model", HUB, "--reward", "correct=math", "--reward", reward) == 0
    shown = capsys.readouterr().out
    assert "prompt: column question; ground truth: answer\n" in shown
    assert "data.train_files[0]: 27 rows" in shown
    assert "data.val_files[0]: 3 rows" in shown
    config = CheckedRun.load(["recipe=mine"]).config
    assert (config.data.columns.prompt, config.data.columns.ground_truth) == ("question", "answer")
    assert (config.data.train_batch_size, config.budget.rollouts_per_prompt) == (16, 8)
    assert config.rewards["correct"].range == (0, 1)
    short = config.rewards["short"]
    assert (short.function, short.options, short.weight) == ("length", {"kind": "cap", "cap": 20}, 0.5)
    ids = [
        sorted(row["id"] for _, row in read_records(Path("mine", f"{part}.jsonl"))) for part in ("train", "validation")
    ]
    assert sorted(ids[0] + ids[1]) == list(range(30))
    assert len(ids[0]) == 27
    assert invoke(["plan", "recipe=mine"]) == 0


def test_parquet_keeps_its_types_and_files_of_ones_own_stay_where_they_are(rows: Path) -> None:
    table = pa.table(
        {"Problem": ["a", "b", "c"], "solution": [1, None, 3], "when": pa.array([1, 2, 3], pa.timestamp("ms"))}
    )
    pq.write_table(table, "rows.parquet")
    Path("own.py").write_text("def good(prompt, response, ground_truth, extra):\n    return 1.0\n")
    assert init("mine", "--data", "rows.parquet", "--model", HUB, "--reward", "good=own.py:good") == 0
    parts = [pq.read_table(Path("mine", f"{part}.parquet")) for part in ("train", "validation")]
    assert [part.num_rows for part in parts] == [2, 1]
    assert all(part.schema.equals(table.schema) for part in parts)
    config = CheckedRun.load(["recipe=mine"]).config
    assert config.rewards["good"].function == f"{rows.parent}/own.py:good"
    assert config.data.columns.prompt == "Problem"
    assert config.data.train_batch_size == 2


def test_a_file_of_validation_rows_is_used_and_verls_schema_needs_no_columns(rows: Path) -> None:
    of_verl = {"prompt": [{"role": "user", "content": "1+1"}], "reward_model": {"ground_truth": "2"}}
    jsonl.replace(Path("verl.jsonl"), [of_verl] * 3)
    assert init("mine", "--data", "verl.jsonl", "--validation", "verl.jsonl", "--model", HUB) == 0
    config = CheckedRun.load(["recipe=mine"]).config
    assert config.data.train_files == config.data.val_files == [str(rows.parent / "verl.jsonl")]
    assert config.data.columns.prompt is None
    assert sorted(path.name for path in Path("mine").iterdir()) == ["config.yaml", "rewards.py"]


def test_all_rows_of_a_prompt_are_on_one_side(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or the model would be asked in its validation what it has been taught."""
    jsonl.replace(rows, ({"question": [{"role": "user", "content": f"{n % 11}"}], "answer": n} for n in range(40)))
    assert init("mine", *ROWS) == 0
    assert "note: 29 of 40 rows have the prompt of an earlier one" in capsys.readouterr().out
    parts = [[row for _, row in read_records(Path("mine", f"{part}.jsonl"))] for part in ("train", "validation")]
    assert sum(map(len, parts)) == 40
    train, held_out = ({row["question"][0]["content"] for row in part} for part in parts)
    assert (len(train), len(held_out)) == (10, 1)
    assert not train & held_out


def test_a_row_that_cannot_be_used_is_named_by_its_place_in_the_given_file(rows: Path) -> None:
    content = [*({"question": f"{n}", "answer": n} for n in range(30)), {"question": "", "answer": 1}]
    jsonl.replace(rows, content)
    with pytest.raises(ConfigError, match=rf"{rows}: row 31: "):
        init("mine", *ROWS)
    assert not Path("mine").exists()


def test_a_model_of_few_positions_gets_lengths_that_it_takes(rows: Path) -> None:
    tokenizer = byte_tokenizer()
    save(tiny_qwen2(tokenizer, layers=1, positions=200), tokenizer, Path("small"))
    assert init("mine", "--data", "rows.jsonl", "--model", "small") == 0
    data = CheckedRun.load(["recipe=mine"]).config.data
    assert data.max_prompt_length % 32 == 0
    assert data.max_prompt_length + data.max_response_length == 200


def test_without_rewards_it_leaves_one_to_change(rows: Path) -> None:
    assert init("mine", "--data", "rows.jsonl", "--model", HUB) == 0
    config = CheckedRun.load(["recipe=mine"]).config
    correct = load_function(config.rewards["correct"].function, Path("mine"), {})
    assert [correct([], response, 2, {}) for response in ("so\n2 ", "2\nso", "")] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", HUB], "--data: not given, and there is no terminal to ask on"),
        (["--data", "none.jsonl", "--model", HUB], "--data: given '.*none.jsonl', which can't be used: No such file"),
        (["--data", "rows.csv", "--model", HUB], "--data: .*rows.csv given a .csv, allowed: .parquet, .jsonl, .json"),
        (["--data", "empty.jsonl", "--model", HUB], "--data: .*empty.jsonl has no rows"),
        (["--data", "odd.jsonl", "--model", HUB], "--prompt: not given, allowed: the column of prompts, among a, b"),
        (["--data", "half.jsonl", "--model", HUB], "--ground-truth: not given, allowed: .* among question, b"),
        ([*ROWS, "--prompt", "q"], "--prompt: given 'q', allowed: question, answer, id"),
        ([*ROWS, "--reward", "math"], "--reward: given 'math', allowed: NAME=FUNCTION"),
        ([*ROWS, "--reward", "a=mth"], "rewards.a.function: unknown .* Did you mean 'math'"),
        ([*ROWS, "--reward", "a=length"], "rewards.a.options: length needs kind"),
        (["--data", "one.jsonl", "--model", HUB], "one.jsonl has 1 different prompts, allowed: at least 2"),
        (["--data", "bad.jsonl", "--model", HUB], "data.train_files.*question: given 7, allowed: a list of messages"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_one_message_and_leaves_nothing(rows: Path, arguments: list[str], message: str) -> None:
    Path("rows.csv").write_text("a,b\n")
    Path("empty.jsonl").touch()
    Path("odd.jsonl").write_text('{"a": 1, "b": 2}\n')
    Path("half.jsonl").write_text('{"question": 1, "b": 2}\n')
    Path("one.jsonl").write_text('{"question": "1", "answer": "2"}\n')
    jsonl.replace(Path("bad.jsonl"), [{"question": 7, "answer": "2"}] * 5)
    with pytest.raises(ConfigError, match=message):
        init("mine", *arguments)
    assert not Path("mine").exists()


def test_a_taken_folder_is_left_alone(rows: Path) -> None:
    Path("mine").mkdir()
    Path("mine", "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="isn't an empty folder"):
        init("mine", "--data", "rows.jsonl", "--model", HUB)
    assert Path("mine", "config.yaml").read_text() == "seed: 1\n"


def test_on_a_terminal_it_asks(rows: Path) -> None:
    controller, terminal = pty.openpty()
    os.write(controller, f"rows.jsonl\n{HUB}\ncorrect=math\n\n".encode())
    command = [sys.executable, "-m", "mrpo.cli.main", "init", "mine"]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "File of training rows" in done.stdout + done.stderr
    assert CheckedRun.load(["recipe=mine"]).config.rewards["correct"].function == "math"


@pytest.mark.parametrize(
    "text", ["no", "NULL", "Yes", "1e5", "a ${b} c", 'it\'s "so"', "ümlaut", "a: b # c", "-", "x\\", ""]
)
def test_any_text_is_read_as_it_is(text: str, rows: Path) -> None:
    rewards: dict[str, dict[str, Any]] = {"r": {"function": "http", "options": {"url": text}}}
    recipe = NewRecipe(
        Path("mine").resolve(), HUB, rows, rows, {"prompt": "question", "ground_truth": "answer"}, rewards
    )
    recipe.folder.mkdir()
    (recipe.folder / "config.yaml").write_text(recipe.config(), encoding="utf-8")
    config, _ = load_run_config(["recipe=mine"])
    assert json.dumps(config.rewards["r"].options) == json.dumps({"url": text})
