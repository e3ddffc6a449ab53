"""CONTRIBUTING.md does what it says: each "Add a …" is followed in a copy of the repository, its commands included."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"^## (Add an? \w+)\n(.*?)(?=^## )", _PAGE, re.MULTILINE | re.DOTALL))
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"# (?P<file>[\w./]+)(, into (?P<name>\w+))?\n")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the samples touch and the commands need, in a folder of its own."""
    tests = (f"tests/unit/{part}" for part in ("advantages", "budget", "record", "observe"))
    for part in ("mrpo", "recipes/quickstart", *tests):
        shutil.copytree(_ROOT / part, tmp_path / part)
    for file in ("pyproject.toml", "tests/__init__.py", "tests/unit/__init__.py"):
        shutil.copy(_ROOT / file, tmp_path / file)
    return tmp_path


def _follow(section: str, folder: Path) -> None:
    """Write each sample to the file that its first line names, or into the list there; run each line of shell."""
    commands = []
    for language, text in _FENCE.findall(section):
        if language == "sh":
            commands += text.splitlines()
            continue
        place = _PLACE.match(text)
        assert place is not None, f"a sample that doesn't say where it goes: {text[:80]!r}"
        file, sample = folder / place["file"], text[place.end() :]
        if place["name"]:
            before, opening, after = re.split(
                rf"^({place['name']}\b.*[\[(]\n)", file.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE
            )
            sample = before + opening + sample + after
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(sample, encoding="utf-8")
    assert commands
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "MRPO_CACHE": str(folder / "cache")}
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_there_is_a_section_for_each_thing_to_add() -> None:
    things = ("an estimator", "an allocator", "a reward", "a recipe", "a command", "a metric")
    assert list(SECTIONS) == [f"Add {thing}" for thing in things]


@pytest.mark.parametrize("title", SECTIONS)
def test_section_can_be_followed(title: str, copy: Path) -> None:
    _follow(SECTIONS[title], copy)


def test_glossary_has_each_term_once() -> None:
    terms = re.findall(r"^\| ([\w ,-]+) \| ", _PAGE.partition("## Glossary")[2], re.MULTILINE)
    names = [name.strip() for term in terms for name in term.split(",")]
    assert len(names) == len(set(names)) > 25
