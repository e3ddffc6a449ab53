"""Which room knows what, read from the imports of every file: those in functions, too. README and design say why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mrpo

pytestmark = pytest.mark.unit

ROOT = Path(mrpo.__file__).parent
KNOWS_NEITHER = {
    "advantages": ("ray", "verl"),
    "budget": ("torch", "ray", "verl"),
    "checkpoint": ("ray", "verl"),
    "compare": ("torch", "ray", "verl"),
    "config": ("torch", "ray", "verl"),
    "data": ("torch", "ray", "verl"),
    "evaluation": ("ray", "verl"),
    "export": ("ray", "verl"),
    "launch": ("torch",),
    "observe": ("torch", "ray", "verl"),
    "prepare": ("ray", "verl"),
    "record": ("torch", "ray", "verl"),
    "rewards": ("ray", "verl"),
    "step": ("ray", "verl", "transfer_queue"),
    "tools": ("ray", "verl"),
}


class Import(NamedTuple):
    """``at_load``: made when the importing file is loaded, so not in a function and not for type checkers only."""

    file: str
    line: int
    module: str
    at_load: bool

    @property
    def room(self) -> str:
        return self.file.partition("/")[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports() -> Iterator[Import]:
    for file in sorted(ROOT.rglob("*.py")):
        path = file.relative_to(ROOT)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        at_load = set(_statements_at_load(tree))
        for node in ast.walk(tree):
            for module in _imported(node, ("mrpo", *path.parts[:-1])):
                yield Import(path.as_posix(), getattr(node, "lineno", 0), module, node in at_load)


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = list(package[: len(package) + 1 - node.level]) if node.level else []
    return [".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names]


def _statements_at_load(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        for_checkers = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not for_checkers:
            yield child
            yield from _statements_at_load(child)


IMPORTS = list(imports())
LOADS = {
    file: [one.module for one in IMPORTS if one.file == file and one.at_load] for file in {i.file for i in IMPORTS}
}


def _top(module: str) -> str:
    return module.partition(".")[0]


def _room(module: str) -> str:
    """The folder or file of this package that a module is in; empty if it is of another package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "mrpo" and len(parts) > 1 else ""


def _files(module: str) -> list[str]:
    """The files of this package that are loaded with a module, or with the module that has this name in it."""
    parts = module.split(".")[1:] if _top(module) == "mrpo" else []
    paths = [Path(*parts[: i + 1]) for i in range(len(parts))]
    files = [file for path in paths for file in (path / "__init__.py", path.with_suffix(".py"))]
    return [file.as_posix() for file in files if (ROOT / file).is_file()]


def test_only_the_seam_knows_verl() -> None:
    knowing = [one for one in IMPORTS if _top(one.module) == "verl"]
    assert knowing
    assert [str(one) for one in knowing if one.room != "verl_seam"] == []


@pytest.mark.parametrize("room", KNOWS_NEITHER)
def test_a_room_does_not_import_what_it_must_not_know(room: str) -> None:
    own = [one for one in IMPORTS if one.room == room]
    assert own, f"there is no room {room}"
    assert [str(one) for one in own if _top(one.module) in KNOWS_NEITHER[room]] == []


@pytest.mark.parametrize("room", KNOWS_NEITHER)
def test_a_room_does_not_load_what_it_must_not_know_by_way_of_others(room: str) -> None:
    waiting, reached = [(file, file) for file in LOADS if file.startswith(f"{room}/")], set[str]()
    while waiting:
        file, chain = waiting.pop()
        if file not in reached:
            reached.add(file)
            loads = LOADS.get(file, [])
            assert [f"{chain} → {module}" for module in loads if _top(module) in KNOWS_NEITHER[room]] == []
            waiting += [(other, f"{chain} → {other}") for module in loads for other in _files(module)]


def test_rooms_do_not_load_each_other_in_a_circle() -> None:
    uses: dict[str, set[str]] = {}
    for one in IMPORTS:
        if one.at_load and _room(one.module) not in ("", one.room):
            uses.setdefault(one.room, set()).add(_room(one.module))
    while free := [room for room in uses if not uses[room] & uses.keys()]:
        for room in free:
            del uses[room]
    assert {room: sorted(used & uses.keys()) for room, used in uses.items()} == {}
