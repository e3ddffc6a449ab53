"""All rows of a run, with a real tokenizer: what verl gets, what is refused, and what the report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import concatenate_datasets, load_dataset

from mrpo.data import cached
from mrpo.data.cached import folder_of, make_rows, name_of
from mrpo.data.check import Job, Report, check
from mrpo.errors import ConfigError
from mrpo.prepare.tiny_model import byte_tokenizer

pytestmark = pytest.mark.unit

SYSTEM_REFUSED = """{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{{ m.content }}{% endfor %}"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer([]).save_pretrained(folder)
    return folder


def write(file: Path, *prompts: Any, **more: Any) -> str:
    """Rows of these prompts: a token a letter, and four around it."""
    rows = [{"prompt": prompt, "reward_model": {"ground_truth": "2"}, **more} for prompt in prompts]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


@pytest.fixture
def job(tmp_path: Path, tokenizer: Path) -> Job:
    return Job(
        files={
            "data.train_files[0]": write(tmp_path / "a.parquet", "1+1", "1+1+1+1+1+1"),
            "data.val_files[0]": write(tmp_path / "b.jsonl", "2+2"),
        },
        columns={},
        overlong="refuse",
        max_prompt_length=32,
        train_batch_size=1,
        tokenizer=str(tokenizer),
        template=None,
        template_options={},
        trust_remote_code=False,
    )


def rows_of(out: Path, field: str) -> list[dict[str, Any]]:
    return pq.read_table(out / name_of(field)).to_pylist()


def test_lengths_are_those_of_the_rendered_prompts(job: Job, tmp_path: Path) -> None:
    train, validation = check(job, tmp_path).files
    assert train.lengths is not None
    assert (train.lengths.min, train.lengths.max, train.rows) == (6, 14, 2)
    assert train.prompts[0] == "<|im_start|>1+1<|im_end|><|im_start|>"
    assert validation.prompts == ["<|im_start|>2+2<|im_end|><|im_start|>"]


@pytest.mark.parametrize("field", ["data.train_files[0]", "data.val_files[0]"])
def test_a_prompt_over_the_limit_is_refused_with_its_row_and_length(job: Job, tmp_path: Path, field: str) -> None:
    file = write(tmp_path / "long.jsonl", "1+1", "1" * 40)
    with pytest.raises(ConfigError) as refused:
        check(job.model_copy(update={"files": {**job.files, field: file}}), tmp_path)
    assert f"{field}: {file}: 1 of 2 prompts have more than the 32 tokens" in str(refused.value)
    assert "(row 2 has 43)" in str(refused.value)


def test_a_prompt_of_just_the_limit_is_none_over_it(job: Job, tmp_path: Path) -> None:
    assert check(job.model_copy(update={"max_prompt_length": 14}), tmp_path).files[0].dropped == 0
    with pytest.raises(ConfigError, match="row 2 has 14"):
        check(job.model_copy(update={"max_prompt_length": 13}), tmp_path)


def test_drop_leaves_the_long_rows_out(job: Job, tmp_path: Path) -> None:
    report = check(job.model_copy(update={"overlong": "drop", "max_prompt_length": 13}), tmp_path).files[0]
    assert (report.rows, report.dropped) == (1, 1)
    assert [row["prompt"][0]["content"] for row in rows_of(tmp_path, "data.train_files[0]")] == ["1+1"]
    with pytest.raises(ConfigError, match="leaves none of its 2 rows"):
        check(job.model_copy(update={"overlong": "drop", "max_prompt_length": 3}), tmp_path)


def test_truncate_left_keeps_and_counts_them(job: Job, tmp_path: Path) -> None:
    report = check(job.model_copy(update={"overlong": "truncate_left", "max_prompt_length": 13}), tmp_path).files[0]
    assert (report.rows, report.truncated) == (2, 1)
    assert len(rows_of(tmp_path, "data.train_files[0]")) == 2


def test_files_of_different_kinds_and_columns_can_be_concatenated_as_verl_does(job: Job, tmp_path: Path) -> None:
    files = {
        "data.train_files[0]": write(tmp_path / "x.parquet", "1+1", extra_info=None),
        "data.train_files[1]": write(tmp_path / "y.json", [{"role": "user", "content": "2"}], extra_info={"level": 2}),
        "data.train_files[2]": write(tmp_path / "z.jsonl", "3", data_source="hub/z", solution="long"),
    }
    check(job.model_copy(update={"files": files}), tmp_path)
    sets = [load_dataset("parquet", data_files=str(tmp_path / name_of(field)))["train"] for field in files]
    rows = list(concatenate_datasets(sets))
    assert [row["data_source"] for row in rows] == ["x", "y", "hub/z"]
    assert [row["prompt"][0]["content"] for row in rows] == ["1+1", "2", "3"]
    assert [row["extra_info"] for row in rows] == [
        {"index": 1, "prompt_is_text": True, "level": None, "solution": None},
        {"index": 1, "prompt_is_text": None, "level": 2, "solution": None},
        {"index": 1, "prompt_is_text": True, "level": None, "solution": "long"},
    ]


def test_values_of_different_types_name_the_field_and_both_files(job: Job, tmp_path: Path) -> None:
    files = {
        "data.train_files[0]": write(tmp_path / "x.jsonl", "1", level="hard"),
        "data.train_files[1]": write(tmp_path / "y.jsonl", "1", "2", level=3),
    }
    with pytest.raises(ConfigError, match=r"extra_info.level is str in .*x.jsonl row 1 and int in .*y.jsonl row 1"):
        check(job.model_copy(update={"files": files}), tmp_path)


@pytest.mark.parametrize(
    ("integer", "fraction", "field"),
    [
        ({"level": 1}, {"level": 0.5}, "extra_info.level"),
        ({"reward_model": {"ground_truth": 7}}, {"reward_model": {"ground_truth": 7.25}}, "reward_model.ground_truth"),
        ({"tests": [{"in": [1, 2]}]}, {"tests": [{"in": [0.5]}]}, r"extra_info.tests\[\].in\[\]"),
        ({"index": 1}, {"index": 2.0}, "extra_info.index"),
    ],
)
def test_an_integer_beside_fractions_is_refused_and_not_made_one(
    job: Job, tmp_path: Path, integer: dict[str, Any], fraction: dict[str, Any], field: str
) -> None:
    whole, parts = write(tmp_path / "x.jsonl", "1", "2", **integer), write(tmp_path / "y.json", "1", **fraction)
    for first, second, kinds in ((whole, parts, ("int", "float")), (parts, whole, ("float", "int"))):
        files = {"data.train_files[0]": first, "data.val_files[0]": second}
        with pytest.raises(
            ConfigError, match=rf"{field} is {kinds[0]} in .* row 1 and {kinds[1]} in .* row 1\. Allowed"
        ):
            check(job.model_copy(update={"files": files}), tmp_path)
    check(job.model_copy(update={"files": {"data.train_files[0]": whole}}), tmp_path)
    assert type(rows_of(tmp_path, "data.train_files[0]")[0]["extra_info"]["index"]) is int


def test_a_mix_within_one_list_is_named_too(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    write(file, "1", tests=[1, 2])
    file.write_text(
        file.read_text()
        + "\n\n"
        + json.dumps({"prompt": "1", "reward_model": {"ground_truth": "2"}, "tests": [1, 2.5]})
    )
    with pytest.raises(
        ConfigError, match=r"extra_info\.tests\[\] is int in .*x\.jsonl row 1 and float in .*x\.jsonl row 3"
    ):
        check(job.model_copy(update={"files": {"data.train_files[0]": str(file)}}), tmp_path)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_an_integer_that_no_column_holds_is_refused(job: Job, tmp_path: Path, number: int) -> None:
    file, largest = write(tmp_path / "x.jsonl", "1", level=number), write(tmp_path / "y.jsonl", "1", level=2**63 - 1)
    with pytest.raises(ConfigError, match=r"extra_info\.level is -?9223372036854775\d+ in .*x\.jsonl row 1\. Allowed"):
        check(job.model_copy(update={"files": {"data.train_files[0]": file}}), tmp_path)
    check(job.model_copy(update={"files": {"data.train_files[0]": largest}}), tmp_path)
    assert rows_of(tmp_path, "data.train_files[0]")[0]["extra_info"]["level"] == 2**63 - 1


def test_a_template_that_refuses_a_role_is_said_with_the_row(job: Job, tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1"}]
    files = {"data.train_files[0]": write(tmp_path / "x.jsonl", "1", chat)}
    with pytest.raises(ConfigError, match=r"x.jsonl: row 2: prompt: the chat template refuses it: no system role"):
        check(job.model_copy(update={"files": files, "template": SYSTEM_REFUSED}), tmp_path)


def test_a_template_that_leaves_the_question_out_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="row 1: prompt: the chat template leaves the last message out"):
        check(job.model_copy(update={"template": "{% for m in messages %}[{{ m.role }}]{% endfor %}"}), tmp_path)


def test_arguments_reach_the_template_and_an_opened_tag_is_reported(job: Job, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if thinks %}<think>\n{% endif %}"
    thinking = job.model_copy(update={"template": template, "template_options": {"thinks": True}})
    assert check(thinking, tmp_path).files[0].opened_tag == "think"
    assert rows_of(tmp_path, "data.train_files[0]")[0]["extra_info"]["opened_tag"] == "think"
    assert check(job.model_copy(update={"template": template}), tmp_path).files[0].opened_tag == ""


def test_an_answer_that_was_begun_is_rendered_unfinished(job: Job, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<answer>\n"}]
    files = {"data.train_files[0]": write(tmp_path / "x.jsonl", chat, "1+1")}
    report = check(job.model_copy(update={"files": files}), tmp_path).files[0]
    begun, whole = report.prompts
    assert begun.endswith("<answer>\n")
    assert begun.startswith(whole)  # the generation prompt, and then the answer's beginning
    assert report.opened_tag == "answer"
    extra = [row["extra_info"] for row in rows_of(tmp_path, "data.train_files[0]")]
    assert [(row["prefill"], row["opened_tag"]) for row in extra] == [("<answer>\n", "answer"), (None, None)]


def test_a_tokenizer_without_a_template_is_refused(job: Job, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer([])
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(ConfigError, match="has no chat template"):
        check(job.model_copy(update={"tokenizer": str(tmp_path / "bare")}), tmp_path)


def test_more_prompts_a_step_than_rows_are_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.train_batch_size: given 3, allowed: at most the 2 rows"):
        check(job.model_copy(update={"train_batch_size": 3}), tmp_path)


def test_rows_are_made_once_and_again_when_something_changes(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))
    folder, report = make_rows(job)
    assert isinstance(report, Report)
    assert len(rows_of(folder, "data.train_files[0]")) == 2
    with monkeypatch.context() as broken:
        broken.setattr(cached, "_run", None)
        assert make_rows(job)[0] == folder
    write(tmp_path / "a.parquet", "3+3")
    assert folder_of(job) != folder
    assert folder_of(job.model_copy(update={"max_prompt_length": 31})) != folder_of(job)


def test_a_refusal_comes_back_from_the_other_process_and_leaves_nothing(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"^data.train_files\[0\]: .*: 1 of 2 prompts have more than the 13 tokens"):
        make_rows(job.model_copy(update={"max_prompt_length": 13}))
    assert list((tmp_path / "cache").iterdir()) == []
