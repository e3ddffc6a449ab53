"""A folder that is made is whole or absent, whatever ends its maker."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pytest

from mrpo.errors import ConfigError
from mrpo.export.error import ExportError
from mrpo.export.folder import new_folder

pytestmark = pytest.mark.unit


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_there_once_it_is_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "model") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text("content")
        assert not (tmp_path / "deep" / "model").exists()
    assert (tmp_path / "deep" / "model" / "inner" / "file").read_text() == "content"
    assert names(tmp_path / "deep") == ["model"]


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_what_exists_is_not_touched(there: str, tmp_path: Path) -> None:
    target = tmp_path / "model"
    make: dict[str, Callable[[], object]] = {
        "folder": target.mkdir,
        "file": target.touch,
        "link": lambda: target.symlink_to("nowhere"),
    }
    make[there]()
    with pytest.raises(ConfigError, match="exists"), new_folder(target):
        raise AssertionError("not reached")
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "model") as partial:
            (partial / "file").touch()
            raise error

    with pytest.raises(error):
        fill()
    assert names(tmp_path) == []


def test_somebody_else_who_was_quicker_is_not_overwritten(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "model"):
            (tmp_path / "model").mkdir()

    with pytest.raises(ConfigError, match="exists"):
        fill()
    assert names(tmp_path) == ["model"]


def _fill_for_ever(target: Path) -> None:
    with new_folder(target) as partial:
        (partial / "file").touch()
        time.sleep(100)


def test_a_killed_makers_rest_is_removed_by_the_next_and_a_living_ones_is_named(tmp_path: Path) -> None:
    maker = multiprocessing.get_context("fork").Process(target=_fill_for_ever, args=(tmp_path / "model",))
    maker.start()
    while not list(tmp_path.glob(".model.*.partial/file")):
        time.sleep(0.01)
    with pytest.raises(ExportError, match=f"is being filled by process {maker.pid} on"), new_folder(tmp_path / "model"):
        raise AssertionError("not reached")
    assert maker.pid is not None
    os.kill(maker.pid, SIGKILL)
    maker.join()
    assert names(tmp_path) != []
    with new_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == ["model"]


def test_the_rest_of_another_host_is_named(tmp_path: Path) -> None:
    (tmp_path / ".model.elsewhere.1.partial").mkdir()
    (tmp_path / ".model.v2.elsewhere.1.partial").mkdir()  # of another target
    with pytest.raises(ExportError, match="process 1 on elsewhere"), new_folder(tmp_path / "model"):
        raise AssertionError("not reached")
