"""``mrpo rewards``: what a recipe's rewards say of a file of responses, and what is wrong with the file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from mrpo.cli._audit_rows import read_rollouts
from mrpo.cli.main import main
from mrpo.config.check import reward_notes
from mrpo.config.load import load_run_config
from mrpo.record.run_folder import RunFolder
from mrpo.registry import module_names

pytestmark = pytest.mark.unit

RECIPE = """
prepare: none.py
model: {{path: {model}}}
data: {{train_files: [none.parquet], val_files: [none.parquet], train_batch_size: 2}}
trainer: {{n_gpus_per_node: 1}}
rewards:
{rewards}
"""
REWARDS = """
import time
def half(prompt, response, truth, extra): return 0.5
def silent(prompt, response, truth, extra): return None
def picky(prompt, response, truth, extra):
    if "x" in response: raise KeyError("[/x]")
    return 1.0
def hangs(prompt, response, truth, extra): time.sleep(60)
def first(prompt, response, truth, extra):
    print("reading", response)
    return {"score": 9, "letters": len(response), "of": prompt[0]["content"]}
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def mrpo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command in this process and a folder of its own, since imports take most of its time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["mrpo", "rewards", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "responses.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


def make_recipe(folder: Path, rewards: str, model: str = "none/none") -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "config.yaml").write_text(RECIPE.format(rewards=rewards, model=model))
    (folder / "mine" / "rewards.py").write_text(REWARDS)


def make_tokenizer(folder: Path, template: str) -> None:
    """One of whole words, that ``transformers`` loads."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')


def cells(output: str, title: str) -> dict[str, list[str]]:
    """The rows of the table under ``title``, by their first cell."""
    lines = output.split(f"\n{title}", 1)[1].splitlines()[1:]
    start = next(n for n, line in enumerate(lines) if "───" in line) + 1
    table: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line.strip():
            break
        first, *others = line.split()
        table[first] = others
    return table


def question(response: str, **more: Any) -> dict[str, Any]:
    return {"prompt": "c+2", "ground_truth": "e", "response": response, "response_tokens": 3, **more}


QUICKSTART = [
    question("e"),
    question("<answer>e</answer>", response_tokens=14),
    question("<answer>f</answer>", response_tokens=40),
    question("well, so it is e", response_tokens=20),
    {"prompt": "a+1", "ground_truth": "b", "responses": ["b", "b"], "response_tokens": [2, 2]},
]


def test_rewards_of_a_group_are_given_the_rows_of_a_prompt(mrpo: Command, tmp_path: Path) -> None:
    rewards = [
        "rewards.diverse={function: distinct, scope: group, options: {unit: characters}}",
        "rewards.ranked={function: rank, scope: group, options: {of: short}}",
        "rewards.short.weight={0: 0, 50: 1}",
    ]
    file = write(tmp_path, *QUICKSTART)
    done = mrpo("check", str(file), "--recipe", "quickstart", "--out", "scored.jsonl", *rewards)
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout, "Outcomes")["diverse"][:3] == ["6", "0", "0"]
    scored = [json.loads(line)["rewards"] for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [row["short"] for row in scored] == [1, 1, 0, 0, 1, 1]
    assert [row["ranked"] for row in scored] == pytest.approx([2.5 / 3, 2.5 / 3, 0.5 / 3, 0.5 / 3, 0.5, 0.5])
    assert [row["diverse"] for row in scored][4:] == [0, 0]
    assert scored[1]["diverse"] == pytest.approx(scored[2]["diverse"])
    misnamed = mrpo("check", str(file), "--recipe", "quickstart", rewards[1].replace("short", "shorts"))
    assert misnamed.returncode == 2
    assert "rewards.ranked.options (reward of scope rollout)" in misnamed.stderr


def test_the_quickstarts_rewards_of_six_responses(mrpo: Command, tmp_path: Path) -> None:
    file = write(tmp_path, *QUICKSTART)
    done = mrpo("check", str(file), "--recipe", "quickstart", "--out", "scored.jsonl")
    assert done.returncode == 0, done.stderr
    assert "6 responses to 2 prompts" in done.stdout
    assert cells(done.stdout, "Outcomes")["correct"][:3] == ["6", "0", "0"]
    scores = cells(done.stdout, "Scores")
    assert [scores[name][1] for name in ("correct", "tagged", "short")] == ["0.833", "0.333", "0.667"]
    assert cells(done.stdout, "Signal")["correct"] == ["50%"]
    assert cells(done.stdout, "Correlation within prompts")["tagged"] == ["-0.58", "–", "+0.00"]
    assert "Failures" not in done.stdout

    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert [row["rewards"]["tagged"] for row in rows] == [0, 1, 1, 0, 0, 0]
    assert [row["row"] for row in rows] == ["row 1", "row 2", "row 3", "row 4", "row 5.0", "row 5.1"]
    assert [row["tokens"] for row in rows] == [3, 14, 40, 20, 2, 2]
    assert read_rollouts(tmp_path / "scored.jsonl").group_ids_N.tolist() == [0, 0, 0, 0, 1, 1]


def test_overrides_reach_the_rewards(mrpo: Command, tmp_path: Path) -> None:
    file = write(tmp_path, *QUICKSTART)
    override = "rewards.short={function: length, options: {kind: cap, cap: 2}, range: [0, 1]}"
    done = mrpo("check", str(file), "--recipe", "quickstart", "--out", "o.jsonl", override)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["rewards"]["short"] for row in rows] == [0, 0, 0, 0, 1, 1]


def test_parquet_in_verls_schema_with_extra_info(mrpo: Command, tmp_path: Path) -> None:
    make_recipe(tmp_path, "  words: {function: length, options: {kind: cap, cap: 7}, range: [0, 1]}")
    rows = [
        {
            "data_source": "me",
            "prompt": [{"role": "user", "content": "Hi"}],
            "reward_model": {"style": "rule", "ground_truth": "e"},
            "extra_info": {"response_tokens": n},
            "response": "e",
        }
        for n in (7, 8)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "r.parquet")
    done = mrpo("check", "r.parquet", "--recipe", "./mine", "--out", "o.jsonl")
    assert done.returncode == 0, done.stderr
    written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["rewards"]["words"] for row in written] == [1, 0]


def test_one_function_is_called_once_a_row_and_what_it_prints_is_named(mrpo: Command, tmp_path: Path) -> None:
    make_recipe(
        tmp_path,
        "  half: {function: rewards.py:half}\n"
        "  nine: {function: rewards.py:first}\n  letters: {function: rewards.py:first, key: letters}\n",
    )
    file = write(tmp_path, question("ab"), question("xyz"))
    done = mrpo("check", str(file), "--recipe", "./mine", "--out", "o.jsonl")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("printed by")]
    named, log = line.split(": ")
    assert named == "printed by nine, letters"
    assert Path(log).read_text() == "reading ab\nreading xyz\n"
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["rewards"]["letters"] for row in rows] == [2, 3]
    assert [row["details"] for row in rows] == [{"nine": {"of": "c+2"}}] * 2
    shutil.rmtree(Path(log).parent)


def test_what_a_run_says_of_its_rewards_is_said_here_too(mrpo: Command, tmp_path: Path) -> None:
    make_recipe(tmp_path, "  runs: {function: code, range: [0, 1]}")
    file = write(tmp_path, {"prompt": "a", "response": "no code", "ground_truth": ["assert f(1) == 2"]})
    done = mrpo("check", str(file), "--recipe", "./mine")
    assert done.returncode == 0, done.stderr
    notes = reward_notes(load_run_config(["recipe=./mine"])[0], here=True)
    assert notes[0].startswith(
        "rewards.runs: tests that are asserts, unlike inputs and outputs, run beside the program"
    )
    assert done.stderr.splitlines() == [f"mrpo: {note}" for note in notes]


def test_a_tag_that_the_chat_template_opens_counts_as_in_a_run(mrpo: Command, tmp_path: Path) -> None:
    model = tmp_path / "model"
    make_tokenizer(model, "{% for m in messages %}{{ m.content }}{% endfor %}{% if thinks %}<think>\n{% endif %}")
    make_recipe(tmp_path, "  formed: {function: tags, options: {names: [think, answer]}}", str(model))
    rows = [question("so</think> <answer>e</answer>"), question("<answer>e</answer>")]
    rows.append(question("5</answer>", extra_info={"opened_tag": "answer"}))
    check = ("check", str(write(tmp_path, *rows)), "--recipe", "./mine", "--out", "o.jsonl")
    for thinks, expected in ((True, [1, 0, 0]), (False, [0, 0, 0])):
        done = mrpo(*check, f"data.apply_chat_template_kwargs={{thinks: {thinks}}}")
        assert done.returncode == 0, done.stderr
        written = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
        assert [row["rewards"]["formed"] for row in written] == expected
        assert ("the chat template opens <think>, which counts" in done.stdout) == thinks


def test_what_the_chat_template_refuses_is_named(mrpo: Command, tmp_path: Path) -> None:
    model = tmp_path / "model"
    make_tokenizer(model, "{{ raise_exception('only questions') }}")
    make_recipe(tmp_path, "  formed: {function: tags, options: {names: [think]}}", str(model))
    done = mrpo("check", str(write(tmp_path, question("<think>e</think>"))), "--recipe", "./mine")
    assert done.returncode == 0, done.stderr
    assert "prompts: not all rendered: row 1: prompt: the chat template refuses it: only questions" in done.stdout


def test_the_rollouts_of_a_run(mrpo: Command, tmp_path: Path) -> None:
    folder = RunFolder.create("quickstart", "", tmp_path / "runs")
    rollouts = [
        {"uid": uid, "sample": n, "prompt": "c+2", "response": said, "ground_truth": "e", "rewards": {}, "tokens": 15}
        for uid, n, said in [("p", 0, "e"), ("p", 1, "f"), ("q", 0, "e"), ("q", 1, "e")]
    ]
    folder.write_rollouts(3, rollouts)
    done = mrpo("check", "runs/latest/rollouts/3.jsonl", "--recipe", "quickstart")
    assert done.returncode == 0, done.stderr
    assert "4 responses to 2 prompts" in done.stdout
    assert cells(done.stdout, "Scores")["correct"][1] == "0.75"
    assert "short: constant (0 in every row), which teaches nothing" in done.stdout


def test_failures_are_told_by_cause_and_too_many_make_exit_code_1(mrpo: Command, tmp_path: Path) -> None:
    make_recipe(
        tmp_path,
        "  half: {function: rewards.py:half}\n"
        "  silent: {function: rewards.py:silent}\n"
        "  picky: {function: rewards.py:picky, range: [0, 1]}\n"
        "  hangs: {function: rewards.py:hangs, timeout: 0.3}\n"
        "  letters: {function: rewards.py:first, key: letters, range: [0, 2]}\n",
    )
    file = write(tmp_path, question("ab"), question("xyz"), question("b"), question("xx"))
    done = mrpo("check", str(file), "--recipe", "./mine", "--max-failure-rate", "0.25")
    assert done.returncode == 1
    outcomes = {name: row[:3] for name, row in cells(done.stdout, "Outcomes").items()}
    assert outcomes["half"] == ["4", "0", "0"]
    assert outcomes["silent"] == ["0", "4", "0"]
    assert outcomes["picky"] == ["2", "0", "2"]
    assert outcomes["hangs"] == ["0", "0", "4"]
    assert outcomes["letters"] == ["3", "0", "1"]
    failures = cells(done.stdout, "Failures")
    assert failures["picky"] == ["exception", "2", "row", "2", "KeyError:", "'[/x]'"]
    assert failures["hangs"][:2] == ["timeout", "4"]
    assert failures["letters"][-6:] == ["3", "is", "not", "in", "[0,", "2]"]
    for remark in (
        "half: constant (0.5 in every row), which teaches nothing",
        "letters: 1 scores are outside its declared range [0, 2]: failed",
    ):
        assert remark in done.stdout
    assert "picky failed in 2 of 4 rows" in done.stderr
    assert "letters failed" not in done.stderr


def test_tokens_nobody_gave_are_counted_and_that_is_said(mrpo: Command, tmp_path: Path) -> None:
    words = "  words: {function: length, options: {kind: target, target: 4}}"
    make_recipe(tmp_path, words, str(tmp_path / "no-model"))
    row = question("one two")
    del row["response_tokens"]
    file = write(tmp_path, row, question("one two three four", response_tokens=4))
    done = mrpo("check", str(file), "--recipe", "./mine")
    assert done.returncode == 0, done.stderr
    assert "not given for 1 of 2 responses; counted as words, since no tokenizer of" in done.stdout
    assert cells(done.stdout, "Scores")["words"][:4] == ["0.5", "0.75", "0.75", "1"]


def test_tokens_are_counted_by_the_recipes_own_tokenizer(mrpo: Command, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"one": 0, ",": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "model").mkdir()
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    words = "  words: {function: length, options: {kind: min, target: 10}}"
    make_recipe(tmp_path, words, str(tmp_path / "model"))
    row = question("one,one")
    del row["response_tokens"]
    done = mrpo("check", str(write(tmp_path, row)), "--recipe", "./mine")
    assert done.returncode == 0, done.stderr
    assert "plus one for the token that ends a response" in done.stdout
    assert cells(done.stdout, "Scores")["words"][1] == "0.4"


@pytest.mark.parametrize(
    ("content", "tells"),
    [
        ("", "no rows in"),
        ("{", "FILE: r.jsonl:1: not JSON"),
        ("[1]", "FILE: r.jsonl:1: not a JSON object: b'[1]'"),
        (
            '{"prompt": "a", "ground_truth": "b", "answer": "c"}',
            "row 1: has no response or responses. Its keys: prompt, ground_truth, answer.",
        ),
        ('{"response": "a", "ground_truth": "b"}', "row 1: has no prompt."),
        (
            '{"prompt": "a", "response": "b", "reward_model": {}}',
            "row 1: has no ground_truth or reward_model.ground_truth.",
        ),
        ('{"prompt": "a", "response": null, "ground_truth": "b"}', "row 1: response: given None, allowed: a text."),
        (
            json.dumps(question("a")) + '\n\n{"prompt": "a", "responses": "b", "ground_truth": "b"}',
            "row 3: responses: given 'b', allowed: a list of texts.",
        ),
        (
            '{"prompt": "a", "responses": ["b"], "ground_truth": "b", "response_tokens": [1, 2]}',
            "row 1: response_tokens: given [1, 2], allowed: 1 numbers.",
        ),
    ],
)
def test_a_row_that_cant_be_scored_is_told_before_any_is(
    mrpo: Command, tmp_path: Path, content: str, tells: str
) -> None:
    (tmp_path / "r.jsonl").write_text(content)
    done = mrpo("check", "r.jsonl", "--recipe", "quickstart")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert tells in done.stderr


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["check", "none.jsonl", "--recipe", "quickstart"], "FILE: no such file: none.jsonl"),
        (["check", "r.jsonl", "--recipe", "quickstat"], "Did you mean 'quickstart'?"),
        (["check", "r.jsonl", "--recipe", "quickstart", "rewards.short.function=lenght"], "Did you mean 'length'?"),
        (["check", "r.jsonl", "--recipe", "quickstart", "rewards.short.function=length"], "kind"),
        (
            ["check", "r.jsonl", "--recipe", "quickstart", "rewards.rm.model.path=some/model"],
            "only a run serves models",
        ),
        (["check", "r.parquet", "--recipe", "quickstart"], "can't be read as parquet"),
        (["check", "r.jsonl"], "--recipe"),
        (["chek"], "rewards: unknown command 'chek'. Did you mean 'check'? Allowed: check, list."),
    ],
)
def test_what_is_asked_wrongly_is_refused(mrpo: Command, tmp_path: Path, arguments: list[str], tells: str) -> None:
    write(tmp_path, question("e")).rename(tmp_path / "r.jsonl")
    (tmp_path / "r.parquet").write_text("no parquet")
    done = mrpo(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert tells in done.stderr


def test_the_list_names_every_reward_of_the_library(mrpo: Command) -> None:
    done = mrpo("list")
    assert done.returncode == 0
    for name in module_names("mrpo.rewards.library"):
        assert re.search(rf"^ {name} ", done.stdout, re.MULTILINE)
    assert "cap = None" in done.stdout
    assert "[-3, 3]" in done.stdout


def test_from_a_shell_progress_and_tables_dont_mix(tmp_path: Path) -> None:
    file = write(tmp_path, *QUICKSTART)
    command = [sys.executable, "-m", "mrpo.cli.main", "rewards", "check", str(file), "--recipe", "quickstart"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("6 responses to 2 prompts")
