"""Which files a reward's file imports, read off its source."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import mrpo
from mrpo.rewards.imports import imported_files, is_own, own_folders

pytestmark = pytest.mark.unit


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import json, math\nfrom os import path", []),
        ("import one", ["one.py"]),
        ("from .one import x", ["one.py"]),
        ("from . import one", ["one.py"]),
        ("from one import *", ["one.py"]),
        ("def f():\n    try: import one\n    except ImportError: pass", ["one.py"]),
        ("import two", ["one.py", "two.py"]),
        ("import loop", ["loop.py"]),
        ("from package import deep", ["package/deep.py", "one.py"]),
        ("import package.deep", ["package/deep.py", "one.py"]),
        ("from shared.text import clean", ["shared/__init__.py", "shared/text.py", "shared/words.py"]),
        ("from mrpo.rewards import rlla", []),
        ("from ..beyond import x", []),
        ("this is no Python", []),
    ],
)
def test_files_of_ones_own_are_found_through_whatever_imports_them(
    tmp_path: Path, source: str, names: list[str]
) -> None:
    recipe, library = tmp_path / "recipe", tmp_path / "library"
    write(recipe, rewards=source, one="x = 1", two="from .one import x", loop="import rewards, loop", unused="")
    write(recipe, package__deep="from one import x")
    write(library, shared__text="from .words import x\ndef clean(): ...", shared__words="x = 1", json="")
    (library / "shared" / "__init__.py").write_text("")
    found = imported_files(recipe / "rewards.py", [library])
    if "json" in source:
        names = ["json.py"]
    assert sorted(found) == sorted(names)
    assert all(file.is_file() for file in found.values())


def test_a_module_comes_with_the_packages_that_it_is_of(tmp_path: Path) -> None:
    write(tmp_path, lib__text__of="from ..limits import LIMIT\nimport lib.other", lib__limits="", lib__other="")
    for folder in ("lib", "lib/text"):
        (tmp_path / folder / "__init__.py").write_text("")
    found = imported_files(tmp_path / "lib" / "text" / "of.py", [])
    assert sorted(found) == ["lib/__init__.py", "lib/limits.py", "lib/other.py", "lib/text/__init__.py"]


def test_what_is_installed_is_nobodys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert tmp_path in own_folders()
    for file in (
        mrpo.__file__,
        pytest.__file__,
        asyncio.__file__,
    ):
        assert not is_own(Path(file))
