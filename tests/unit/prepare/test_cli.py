"""The frame of a prepare script: its options, and what an error looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.errors import ConfigError
from mrpo.prepare.cli import Options, arguments, run

pytestmark = pytest.mark.unit


def options(*given: str, sample: Path | None = None) -> Options:
    return arguments("Doc.\nMore.", source=True, sample=sample).parse_args(["--out", "o", *given], namespace=Options())


def test_source_is_a_folder_or_none_to_download(tmp_path: Path) -> None:
    assert options().source is None
    assert options("--source", "download").source is None
    assert options("--source", str(tmp_path)).source == tmp_path
    assert options("--source", "sample", sample=tmp_path).source == tmp_path
    assert options("--source", "sample").source == Path("sample")
    assert (options().out, options().seed, options("--seed", "3").seed) == (Path("o"), 0, 3)


def test_a_script_without_public_data_takes_no_source() -> None:
    with pytest.raises(SystemExit):
        arguments(None).parse_args(["--out", "o", "--source", "x"])


def test_main_finds_its_folder_and_the_time_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def main(options: Options) -> None:
        (options.out / "made").touch()

    run(main, arguments(None), ["--out", str(tmp_path / "a" / "b")])
    assert (tmp_path / "a" / "b" / "made").exists()
    assert capsys.readouterr().out == "0 s\n"


def test_an_error_of_the_users_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    def main(options: Options) -> None:
        raise ConfigError("x: given 1, allowed: 2.")

    with pytest.raises(SystemExit) as error:
        run(main, arguments(None), ["--out", str(tmp_path)])
    assert error.value.code == "x: given 1, allowed: 2."
