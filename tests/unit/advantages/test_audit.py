"""``mrpo audit``: rollouts of several frameworks, the advice, and how bad files are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mrpo.advantages.estimators import ESTIMATORS
from mrpo.cli._audit_rows import Rollouts, read_rollouts
from mrpo.cli.main import invoke
from mrpo.errors import ConfigError
from mrpo.record import jsonl
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

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


def test_it_says_which_alarms_the_recommended_estimator_would_raise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of one reward against a third: the two of them let it fall."""
    draw = random.Random(0)
    rows: list[dict[str, Any]] = []
    for row in range(160):
        correct = draw.random()
        brevity = 1 - correct + 0.5 * draw.random()
        rows.append({"prompt_id": f"p{row // 4}", "correct": correct, "right": correct, "brevity": brevity})
    assert main([str(write(tmp_path, rows)), "--weights", "correct=1,right=1,brevity=0.2"]) == 0
    message = " ".join(capsys.readouterr().out.split())
    assert "correct and right say the same (correlation 1.00 within groups), so that it counts twice. Drop" in message
    assert main([str(write(tmp_path, [of | {"right": draw.random(), "brevity": draw.random()} for of in rows]))]) == 0
    assert "alarm" not in capsys.readouterr().out


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


TRL: dict[str, list[Any]] = {
    "step": [1] * 4,
    "prompt": ["p", "p", "q", "q"],
    "completion": list("abcd"),
    "accuracy_reward": [1.0, 0.0, 1.0, 0.0],
    "soft_overlong": [0.0, -0.5, 0.0, -1.0],
    "advantage": [1.0, -1.0, 1.0, -1.0],
}
CHAT = [{"role": "user", "content": "p"}]
SWIFT = {"step": ["1", "1"], "prompt": ["p", "p"], "completion": ["a", "b"], "Accuracy": [1.0, 0.0]}
SWIFT |= {"Format": [1.0, True], "advantages": [0.7, -0.7]}
VERL = {"input": "p", "output": "a", "gts": "3", "score": 0.5, "step": 2}


def matrix(rollouts: Rollouts) -> list[list[float]]:
    return rollouts.rewards_NK.nan_to_num(nan=-9).tolist()


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "chats"])
def test_trls_completions(kind: str, tmp_path: Path) -> None:
    """soft_overlong is a reward though another column has "reward" in its name; prompts may be chats."""
    rows: list[dict[str, Any]] = [dict(zip(TRL, row, strict=True)) for row in zip(*TRL.values(), strict=True)]
    if kind == "parquet":
        pq.write_table(pa.table(TRL), file := tmp_path / "completions_00001.parquet")
    elif kind == "json":
        (file := tmp_path / "completions.json").write_text(json.dumps(rows))
    else:
        prompts = {"p": CHAT, "q": [{"role": "user", "content": "q"}]}
        file = write(tmp_path, [{**row, "prompt": prompts[row["prompt"]]} if kind == "chats" else row for row in rows])
    rollouts = read_rollouts(file)
    assert rollouts.names == ("accuracy_reward", "soft_overlong")
    assert matrix(rollouts) == [[1, 0], [0, -0.5], [1, 0], [0, -1]]
    assert rollouts.group_ids_N.tolist() == [0, 0, 1, 1]
    assert rollouts.left_out["advantage"] == "by its name"


def test_a_folder_of_steps_is_read_as_one(tmp_path: Path) -> None:
    for step in (1, 2):
        pq.write_table(pa.table({**TRL, "step": [step] * 4}), tmp_path / f"completions_{step:05}.parquet")
    rollouts = read_rollouts(tmp_path)
    assert len(rollouts.rewards_NK) == 8
    assert len(rollouts.group_ids_N.unique()) == 4


def test_of_a_runs_folder_its_rollouts_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.rollouts.mkdir(parents=True)
    run.event(Phase.ATTEMPT)
    jsonl.replace(run.rollouts / "1.jsonl", ({"uid": n // 2, "rewards": {"a": n}} for n in range(4)))
    assert read_rollouts(run.path).rewards_NK.flatten().tolist() == [0, 1, 2, 3]


def test_in_a_narrow_terminal_no_number_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"rewards.a_long_name_{n}" for n in range(4)]
    jsonl.replace(tmp_path / "r.jsonl", ({"uid": n // 2, **dict.fromkeys(names, n % 2)} for n in range(4)))
    assert invoke(["audit", str(tmp_path / "r.jsonl")]) == 0
    shown = capsys.readouterr().out
    assert all(shown.count(name) > 3 for name in names)
    assert "…" not in shown


def test_ms_swifts_line_a_step(tmp_path: Path) -> None:
    rollouts = read_rollouts(write(tmp_path, [SWIFT, {**SWIFT, "step": ["2", "2"], "Format": [0.0, None]}]))
    assert rollouts.names == ("Accuracy", "Format")
    assert matrix(rollouts) == [[1, 1], [0, 1], [1, 0], [0, -9]]
    assert rollouts.group_ids_N.tolist() == [0, 0, 1, 1]


def test_nemo_rls_lists_of_one_need_the_group_size(tmp_path: Path) -> None:
    rows = [
        {"content": [f"p {i}"], "rewards": [i / 4], "input_lengths": [7], "token_ids": [[1, 2]], "idx": i}
        for i in range(4)
    ]
    with pytest.raises(ConfigError, match="--group-size, where a prompt's rollouts are in a row"):
        read_rollouts(write(tmp_path, rows))
    rollouts = read_rollouts(write(tmp_path, rows), group_size=2)
    assert (rollouts.names, matrix(rollouts)) == (("rewards",), [[0], [0.25], [0.5], [0.75]])
    assert rollouts.group_ids_N.tolist() == [0, 0, 1, 1]
    for options in ({"group_size": 3}, {"group_size": 0}, {"group_size": 2, "prompt": "idx"}):
        with pytest.raises(ConfigError, match="--group-size: given"):
            read_rollouts(write(tmp_path, rows), **options)


def test_prime_rls_traces(tmp_path: Path) -> None:
    rows = [
        {
            "example_id": i // 2,
            "prompt": CHAT,
            "completion": CHAT,
            "reward": 1.5,
            "metrics": {"right": i % 2, "form": 1.0},
        }
        for i in range(4)
    ]
    rollouts = read_rollouts(write(tmp_path, rows))
    assert (rollouts.prompt, rollouts.names) == ("example_id", ("metrics.right", "metrics.form"))
    assert rollouts.left_out["reward"] == "a total"


def test_verls_dumps_with_a_uid_a_row_and_numpys_booleans(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**VERL, "acc": str(i == 1), "uid": f"x_{i}_0"} for i in range(3)]
    rows[2]["gts"] = ["3", "three"]
    rollouts = read_rollouts(write(tmp_path, rows))
    assert (rollouts.prompt, rollouts.names) == ("input", ("acc",))
    assert matrix(rollouts) == [[0], [1], [0]]
    assert rollouts.left_out["score"] == "a total"
    without = read_rollouts(write(tmp_path, [{**VERL, "uid": f"x_{i}_0", "score": i} for i in range(2)]))
    assert (without.names, matrix(without)) == (("score",), [[0], [1]])


def test_booleans_beside_numbers_and_nan(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"uid": "a", "acc": True},
        {"uid": "a", "acc": 0.5},
        {"uid": "a", "acc": float("nan")},
    ]
    assert matrix(read_rollouts(write(tmp_path, rows))) == [[1], [0.5], [-9]]


def test_a_line_of_tokens_is_one_rollout(tmp_path: Path) -> None:
    rows = [{"uid": 1, "r": i, "token_ids": [5, 6], "logprobs": [0.1, 0.2]} for i in range(2)]
    rollouts = read_rollouts(write(tmp_path, rows))
    assert (rollouts.names, matrix(rollouts)) == (("r",), [[0], [1]])


def test_what_was_taken_as_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"uid": i, "a": i, "b": 1 - i, "score": 1, "advantage": 0.5, "text": "t"} for i in range(2)]
    assert main([str(write(tmp_path, rows))]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 rollouts in 2 groups by 'uid'; rewards: a, b" in printed
    for other in ("score (a total)", "advantage (by its name)", "text (string)"):
        assert other in printed
    assert "no two rollouts have the same uid" in printed


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rollouts.csv", b"uid,r\n1,2\n", "a kind of file that isn't read. Allowed: parquet, JSON lines"),
        ("rollouts.parquet", b"PAR1 and then nothing", "not parquet"),
        ("rollouts.jsonl", b'{"uid": 1, "r": 1}\n{"uid": 1, "r": "\xff"}\n', "not JSON lines"),
        ("rollouts.jsonl", b"[1, 2]\n", "holds 1, allowed: an object a rollout"),
        ("rollouts.jsonl", b"[" * 100_000, "not JSON lines"),
        ("rollouts.jsonl", b'{"uid": 1, "r": ' + b"9" * 400 + b"}", "reward 'r' is inf in row 0"),
        ("rollouts.jsonl", b'{"uid": 1, "a.b": 1, "a": {"b": 2}}\n', "the column 'a.b' is there more than once"),
        ("nothing/here", b"", "holds no rollouts. Allowed: files that end in .parquet"),
    ],
)
def test_what_is_no_file_of_rollouts_is_refused_in_a_sentence(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        main([str(file.parent if name.endswith("here") else file)])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
