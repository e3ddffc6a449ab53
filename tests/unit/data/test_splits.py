"""Splits of Hugging Face data sets, read by the ``datasets`` library from a repository's folder and from its cache."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from mrpo.checkpoint.compatible import describe
from mrpo.config.check import check_files
from mrpo.config.data_files import Split, files_of, is_there, split_of
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.data import files
from mrpo.data.cached import folder_of
from mrpo.data.check import Job, check
from mrpo.data.files import read_split
from mrpo.errors import ConfigError

from .test_check import rows_of

pytestmark = pytest.mark.unit

CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train.jsonl}, {split: test, path: main/test.jsonl}]
- config_name: socratic
  data_files: [{split: train, path: socratic.jsonl}]
---
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set's repository, and a cache of the library's own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "gsm8k"
    (folder / "main").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for name, truths in (("main/train", "123"), ("main/test", "4"), ("socratic", "56")):
        lines = [json.dumps({"question": f"{truth}+0", "answer": truth, "level": int(truth)}) for truth in truths]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def job(train: str, validation: str) -> Job:
    return Job(
        files={"data.train_files[0]": train, "data.val_files[0]": validation},
        columns={"prompt": "question", "ground_truth": "answer"},
        overlong="refuse",
        max_prompt_length=32,
        train_batch_size=1,
        tokenizer=None,
        template=None,
        template_options={},
        trust_remote_code=False,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("openai/gsm8k:train", Split("openai/gsm8k", None, "train")),
        ("openai/gsm8k:main:train[:200]", Split("openai/gsm8k", "main", "train[:200]")),
        ("a.b/c-d_e:test", Split("a.b/c-d_e", None, "test")),
        ("openai/gsm8k", None),
        ("data/train.parquet", None),
        ("/data/train.parquet", None),
        ("/nowhere/gsm8k:train", None),
        ("~/nowhere:train", None),
        ("s3://bucket/train.parquet", None),
        ("a/b/c:train", None),
    ],
)
def test_what_is_a_split(given: str, expected: Split | None) -> None:
    assert split_of(given) == expected


def test_a_file_that_is_there_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai/gsm8k:train").touch()
    assert split_of("openai/gsm8k:train") is None
    assert is_there("openai/gsm8k:train")
    assert list(files_of("openai/gsm8k:train")) == [Path("openai/gsm8k:train")]


def test_rows_of_a_repositorys_splits_are_made_as_those_of_files(repository: Path, tmp_path: Path) -> None:
    given = job(f"{repository}:main:train", f"{repository}:main:test")
    train, validation = check(given, tmp_path).files
    assert (train.rows, validation.rows, train.sources) == (3, 1, {"gsm8k": 3})
    row = rows_of(tmp_path, "data.train_files[0]")[1]
    assert (row["prompt"][0]["content"], row["reward_model"]["ground_truth"]) == ("2+0", "2")
    assert row["extra_info"]["level"] == 2
    assert type(row["extra_info"]["level"]) is int


def test_a_slice_is_a_split(repository: Path) -> None:
    found = list(read_split(Split(str(repository), "main", "train[1:]")))
    assert [(number, record["answer"]) for number, record in found] == [(1, "2"), (2, "3")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("main:validation", "DATA_SET:CONFIGURATION:SPLIT: Unknown split .validation.. Should be one of .*train.*test"),
        ("train", "Config name is missing. Please pick one among the available configs: .*main.*socratic"),
        ("algebra:train", "'algebra' not found. Available: .*main.*socratic"),
    ],
)
def test_what_isnt_in_a_repository_is_one_sentence(repository: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"data.train_files.0.: {repository}:{name} .*{message}") as refused:
        check(job(f"{repository}:{name}", f"{repository}:main:test"), tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_data_set_that_nobody_has_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the hub, which is somebody that listens and says nothing here, doesn't answer."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(files, "HUB_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(
            ConfigError, match=r"data\.train_files\[0\]: nobody/nothing:train can't be read as DATA_SET"
        ):
            check(job("nobody/nothing:train", "nobody/nothing:test"), tmp_path)
    assert constants.HF_HUB_OFFLINE  # and so from now on in this process


def test_rows_and_the_resume_check_follow_the_repositorys_content(repository: Path, tmp_path: Path) -> None:
    train = f"{repository}:main:train"
    given = job(train, f"{repository}:main:test")
    names = [f"data.train_files=['{train}']", f"data.val_files=['{repository}:main:test']"]
    config, recipe = load_run_config(["recipe=quickstart", *names])
    check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
    sources = dict.fromkeys(config.rewards, recipe.folder / "rewards.py")
    before = folder_of(given), describe(config, sources)["data.train_files"]
    assert before[1][0][0] == train
    shutil.copy(repository / "main/test.jsonl", repository / "main/train.jsonl")
    after = folder_of(given), describe(config, sources)["data.train_files"]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_name_without_a_split_says_how_to_give_one(tmp_path: Path) -> None:
    config, recipe = load_run_config(["recipe=quickstart", "data.train_files=[openai/gsm8k]"])
    with pytest.raises(
        ConfigError, match=r"no such file: openai/gsm8k\. A data set of the hub .* openai/gsm8k:train\."
    ):
        check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
