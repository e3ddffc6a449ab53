"""``mrpo audit``: rollouts of several frameworks, the advice, and how bad files are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mrpo.advantages.estimators import ESTIMATORS
from mrpo.cli._audit_rows import read_rollouts
from mrpo.cli.main import invoke
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


def main(arguments: list[str]) -> int:
    return invoke(["audit", *arguments])


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "rollouts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def opposed_rows(groups: int = 30, size: int = 4) -> list[dict[str, Any]]:
    draw = random.Random(0)
    rows = []
    for group in range(groups):
        for _ in range(size):
            correct = draw.random()
            brevity = 1 - correct + 0.1 * draw.random()
            rows.append({"prompt_id": f"p{group}", "correct": correct, "brevity": min(brevity, 1.0)})
    return rows


def test_it_prints_every_estimator_and_a_recommendation_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "audit.png"
    assert main([str(write(tmp_path, opposed_rows())), "--plot", str(plot)]) == 0
    message = capsys.readouterr().out
    for name in ESTIMATORS.names():
        assert name in message
    assert "120 rollouts in 30 groups by 'prompt_id'" in message
    assert "Recommendation: gd2po" in message
    assert "correct and brevity work against each other" in message.replace("\n", " ")
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_it_forecasts_each_reward_under_each_estimator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """b is a hundredth of what a is, and its opposite: the sum lets it fall, and so does what filters nothing out; an
    estimator that hears both alike raises neither for certain. c has nothing to do with either."""
    draw = random.Random(0)
    rows = []
    for i in range(800):
        a = draw.random()
        rows.append({"uid": i // 4, "a": 100 * a, "b": 1 - a + 0.3 * draw.random(), "c": draw.random() < 0.5})
    assert main([str(write(tmp_path, rows)), "--weights", "a=1,b=1,c=0"]) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("What each estimator would make of each reward") :]
    cells = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
    assert cells["grpo"][1::2] == ["rises", "falls", "stays"]
    assert float(cells["grpo"][2].split("±")[0]) > 0.8
    assert cells["gdpo"][5] == "stays"
    assert cells["gdpo"][1] != "falls"


def recommended(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], *options: str) -> str:
    assert main([str(write(tmp_path, rows)), *options]) == 0
    return capsys.readouterr().out.replace("\n", " ")


def test_one_live_reward_needs_no_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"uid": i // 4, "correct": i % 2, "format": 1.0} for i in range(16)]
    message = recommended(tmp_path, capsys, rows)
    assert "Recommendation: grpo" in message
    assert "only correct varies" in message
    assert "format never varies within a group" in message


def test_a_dominant_reward_calls_for_gdpo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(1)
    rows = [{"uid": i // 8, "length": 9, "big": 100 * draw.random(), "small": draw.random()} for i in range(160)]
    message = recommended(tmp_path, capsys, rows)
    assert "Recommendation: gdpo" in message
    assert "big alone makes" in message
    assert "big: no bounds given" in message


def test_a_saturated_reward_calls_for_sa_mrpo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(2)
    rows = [{"uid": i // 8, "easy": float(draw.random() < 0.97), "hard": draw.random()} for i in range(320)]
    message = recommended(tmp_path, capsys, rows)
    assert "Recommendation: sa_mrpo" in message
    assert "easy at 9" in message


def test_agreeing_rewards_need_only_their_sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(3)
    rows = []
    for i in range(160):
        quality = draw.random()
        rows.append({"uid": i // 8, "a": quality, "b": 0.9 * quality})
    assert "Recommendation: grpo" in recommended(tmp_path, capsys, rows)


def test_nested_rewards_totals_and_steps_are_understood(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": i, "step": i // 4, "prompt": "same", "score": 0.5, "rewards": {"format": i % 2 == 0, "judge": None}}
        for i in range(8)
    ]
    rows[3]["rewards"]["judge"] = 0.25
    rollouts = read_rollouts(write(tmp_path, rows))
    assert rollouts.prompt == "prompt"
    assert rollouts.names == ("rewards.format", "rewards.judge")
    assert len(rollouts.group_ids_N.unique()) == 2, "a prompt's rollouts of two steps are two groups"
    assert rollouts.rewards_NK[:, 0].tolist() == [1, 0] * 4
    assert int(rollouts.rewards_NK[:, 1].isnan().sum()) == 7


def test_what_reward_functions_told_besides_their_scores_is_no_reward(tmp_path: Path) -> None:
    told: list[Any] = [{"my_reward": {"x": 1}}, {"my_reward": {"x": "many"}}, {"my_reward": {"x": [1]}}, {}]
    rows = [{"uid": n // 2, "rewards": {"my_reward": n}, "details": entries} for n, entries in enumerate(told)]
    rollouts = read_rollouts(write(tmp_path, rows))
    assert rollouts.names == ("rewards.my_reward",)
    assert rollouts.rewards_NK[:, 0].tolist() == [0, 1, 2, 3]


def test_the_total_is_the_reward_if_there_is_no_other(tmp_path: Path) -> None:
    assert read_rollouts(write(tmp_path, [{"uid": 1, "score": 0.5}, {"uid": 1, "score": 1}])).names == ("score",)


def test_an_id_that_names_rollouts_is_not_taken_for_the_prompt(tmp_path: Path) -> None:
    rows = [{"uid": f"u{i}", "question": f"q{i // 2}", "r": i} for i in range(4)]
    assert read_rollouts(write(tmp_path, rows)).prompt == "question"


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [{"who": i // 2, "x": 1.0, "y": i, "note": "n"} for i in range(4)]
    rollouts = read_rollouts(write(tmp_path, rows), prompt="who", rewards="y, x")
    assert (rollouts.prompt, rollouts.names) == ("who", ("y", "x"))


ROWS = [{"uid": 1, "r": 0.5, "text": "t"}, {"uid": 1, "r": 1.0, "text": "u"}]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, ["--rewards", "q"], "unknown name 'q'"),
        (ROWS, ["--prompt", "uidd"], "Did you mean 'uid'?"),
        (ROWS, ["--rewards", "text"], "reward column 'text': holds string"),
        (ROWS, ["--weights", "r"], "--weights: given 'r', allowed: name=number"),
        (ROWS, ["--weights", "r=high"], "--weights: given 'r=high', allowed: name=number"),
        (ROWS, ["--weights", "s=1"], "unknown name 's'"),
        (ROWS, ["--ranges", "r=0"], "--ranges: given 'r=0', allowed: name=low:high"),
        ([{"r": 1.0}], [], "--prompt: given none"),
        ([{"uid": 1, "text": "t"}], [], "--rewards: given none"),
        ([{"uid": None, "r": 1}, {"uid": 2, "r": 1}], [], "column 'uid': missing in 1 of 2 rollouts"),
        ([], [], "no rollouts in it"),
    ],
)
def test_a_bad_file_or_option_is_refused_in_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], options: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        main([str(write(tmp_path, rows)), *options])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_broken_json_infinite_scores_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"uid": 1, "r": 1}\n{"uid": 1, "r":\n')
    with pytest.raises(ConfigError, match="not JSON lines"):
        main([str(file)])
    file.write_text('{"uid": 1, "r": 1}\n{"uid": 1, "r": Infinity}\n')
    with pytest.raises(ConfigError, match="reward 'r' is inf in row 1"):
        main([str(file)])
    with pytest.raises(ConfigError, match="no such file"):
        main([str(tmp_path / "none.jsonl")])
