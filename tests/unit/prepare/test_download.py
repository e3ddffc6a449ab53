"""Public files: found among local copies, read whatever their format, and one line where they can't be had."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from mrpo.errors import ConfigError
from mrpo.prepare.download import Source, check_hash, find, load, read

pytestmark = pytest.mark.unit

RECORDS = [{"problem": "p\u2028q", "answer": "1"}, {"problem": "r", "answer": "2"}]
SOURCE = Source("https://example.invalid/set/all.json", ("set/all.json", ("a.jsonl", "b/b.jsonl")), "MIT")


def put(folder: Path, name: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\n\n", encoding="utf-8")
    return file


def test_every_format_reads_alike(tmp_path: Path) -> None:
    put(tmp_path, "lines.jsonl")
    put(tmp_path, "lines.json")  # as BFCL names its JSON lines
    (tmp_path / "list.json").write_text(json.dumps(RECORDS))
    with gzip.open(tmp_path / "lines.jsonl.gz", "wt", encoding="utf-8") as content:
        content.write(json.dumps(RECORDS[0]) + "\n" + json.dumps(RECORDS[1]))
    pd.DataFrame(RECORDS).to_parquet(tmp_path / "table.parquet")
    for name in ("lines.jsonl", "lines.json", "list.json", "lines.jsonl.gz", "table.parquet"):
        assert read(tmp_path / name) == RECORDS, name


def test_pandas_options_reach_parquet(tmp_path: Path) -> None:
    pd.DataFrame(RECORDS).to_parquet(tmp_path / "table.parquet")
    assert read(tmp_path / "table.parquet", filters=[("answer", "in", ["2"])]) == RECORDS[1:]


def test_a_copy_is_found_by_the_end_of_its_path_the_shallowest_first(tmp_path: Path) -> None:
    put(tmp_path, "deep/er/set/all.json")
    near = put(tmp_path, "somewhere/set/all.json")
    put(tmp_path, "all.json")  # not in a folder called set
    assert find("x", SOURCE, tmp_path) == [near]


def test_an_alternative_counts_only_if_all_its_files_are_there(tmp_path: Path) -> None:
    first = put(tmp_path, "a.jsonl")
    with pytest.raises(ConfigError):
        find("x", SOURCE, tmp_path)
    second = put(tmp_path, "b/b.jsonl")
    assert find("x", SOURCE, tmp_path) == [first, second]
    assert len(load("x", SOURCE, tmp_path)) == 4


def test_what_is_loaded_is_printed_with_its_licence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(tmp_path, "set/all.json")
    load("x", SOURCE, tmp_path, columns=["answer"])
    assert capsys.readouterr().out == f"x: 2 rows of {file}; licence: MIT\n"


def test_a_file_of_other_content_is_refused_by_name(tmp_path: Path) -> None:
    file = put(tmp_path, "set/all.json")
    with pytest.raises(ConfigError, match=r"x: .*all.json has no column solution\. Expected the file as in https://"):
        load("x", SOURCE, tmp_path, columns=["answer", "solution"])
    file.write_text("")
    with pytest.raises(ConfigError, match="has no rows"):
        load("x", SOURCE, tmp_path)
    check_hash(file, hashlib.sha256(b"").hexdigest())
    with pytest.raises(ConfigError, match=r"sha256 is e3b0.*, expected 00"):
        check_hash(file, "00")


def test_a_missing_file_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    wanted = r"Put set/all.json, or a.jsonl and b/b.jsonl there, or unset MRPO_DATA to download https://"
    with pytest.raises(ConfigError, match=rf"x: not in .*\(MRPO_DATA\)\. {wanted}"):
        find("x", SOURCE, tmp_path)
    by_hand = Source("a file of someone's repository", ("c.json",), "none")
    with pytest.raises(ConfigError, match=r"Put c.json there, or it is a file of someone's repository\."):
        find("x", by_hand, tmp_path)
    with pytest.raises(ConfigError, match=r"x: can't be downloaded, it is a file of .* Set MRPO_DATA to a folder"):
        load("x", by_hand, None)
    with pytest.raises(ConfigError, match="x: no such folder: "):
        find("x", SOURCE, tmp_path / "nowhere")


def test_a_failed_download_is_one_line_that_says_what_to_do() -> None:
    nowhere = Source("https://127.0.0.1:9/all.json", ("all.json",), "MIT")
    with pytest.raises(ConfigError, match=r"x: https://127.0.0.1:9/all.json can't be downloaded \(.+\)\. Set") as error:
        load("x", nowhere, None)
    assert "\n" not in str(error.value)
