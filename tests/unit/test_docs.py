"""Every command line in the documentation is one that ``mrpo`` takes, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from typer.core import TyperGroup

from mrpo.cli.main import app
from mrpo.config.load import load_run_config
from mrpo.config.overrides import take
from mrpo.config.recipes import recipe_names
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for pattern in ("*.md", "docs/*.md", "launch/*.md", "recipes/*/README.md")
    for page in sorted(ROOT.glob(pattern))
]
FENCE = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(mrpo [a-z][^`\n]*)`")
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")
OVERRIDES = ("train", "plan", "launch slurm", "launch kubernetes", "launch local", "evaluate")
PLACEHOLDER = re.compile(r"\b[A-Z]{1,}\b|…")
"""As in ``mrpo export RUN --out FOLDER``, or ``mrpo plan recipe=R``."""


class Command(NamedTuple):
    """A command line as it stands on a page, and the error that the page shows below it."""

    page: str
    words: list[str]
    error: str


def commands() -> Iterator[Command]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT))
        for block in FENCE.findall(text):
            lines = block.replace("\\\n", " ").splitlines()
            for line, below in zip(lines, [*lines[1:], ""], strict=True):
                command = line.strip().removeprefix("$ ")
                if command.startswith("mrpo "):
                    yield Command(name, _words(command), below.removeprefix("mrpo: ") if below[:6] == "mrpo: " else "")
        for command in INLINE.findall(text):
            yield Command(name, _words(command), "")


def _words(command: str) -> list[str]:
    words = shlex.split(command, comments=True)[1:]
    cut = [n for n, word in enumerate(words) if word in ("<", ">", "|", "&&", ";") or word.startswith(("<", ">"))]
    return words[: min(cut, default=len(words))]


ALL = list(commands())


def test_there_are_commands_to_look_at() -> None:
    assert len(ALL) > 100
    assert any(command.error for command in ALL)


@pytest.mark.parametrize("command", ALL, ids=lambda command: f"{command.page}: {' '.join(command.words)}"[:90])
def test_a_command_on_a_page_is_taken(command: Command) -> None:
    group: object = typer.main.get_command(app)
    words, path = list(command.words), []
    while isinstance(group, TyperGroup):
        if not words or words[0].startswith("-"):
            return
        context = group.make_context("mrpo", [], resilient_parsing=True)
        found = group.get_command(context, words[0])
        if found is None and (PLACEHOLDER.search(words[0]) or "|" in words[0]):
            return
        assert found is not None, f"no command {words[0]}"
        path.append(words.pop(0))
        group = found
    if words and not PLACEHOLDER.search(" ".join(words)):  # without any, a page speaks of the command
        values = group.make_context("mrpo", list(words)).params.values()  # type: ignore[attr-defined]
        words = [word for word in words if word not in values]  # an option's value is no setting
    if " ".join(path) in OVERRIDES:
        _settings(command, [word for word in words if "=" in word or word.startswith("~")])


def _settings(command: Command, overrides: list[str]) -> None:
    """They are the settings of a run; a recipe that only the page has stands for the quickstart."""
    if any(PLACEHOLDER.fullmatch(word.partition("=")[2]) for word in overrides):
        return
    given, rest = take(overrides, "recipe", "run_dir", "cluster", "step")
    if "recipe" not in given and command.words[0] == "evaluate":
        rest = [word for word in rest if word.startswith("data.")]
    recipe = str(given.get("recipe", "quickstart"))
    recipe = recipe if recipe.partition("/")[0] in recipe_names() else "quickstart"
    if command.error and command.words[0] == "train":
        with pytest.raises(ConfigError) as raised:
            load_run_config([f"recipe={recipe}", *rest])
        assert str(raised.value).startswith(command.error.partition(" …")[0])
    else:
        load_run_config([f"recipe={recipe}", *rest], note=lambda _: None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_on_a_page_leads_somewhere(page: Path) -> None:
    for target, section in LINK.findall(page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        if section:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert section in slugs, f"{target}#{section}"
