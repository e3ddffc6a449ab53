"""Which files of its user's own a reward's file imports: those that make it another reward when they change.

Read off the source, without executing it: the files beside it, of its package, and of folders on ``sys.path`` that hold
no installed package. What is installed has a version; what is imported by a computed name isn't seen.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import mrpo

Parts = tuple[str, ...]


def imported_files(source: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """The files that ``source`` imports, and those that they import, by their names relative to where they were found.

    Args:
        source: a Python file. What lies in its folder can be imported, also by its relative name.
        folders: where else to look.

    >>> imported_files(Path("recipes/quickstart/rewards.py"), [])
    {}
    """
    source = source.resolve()
    found: dict[str, Path] = {}
    roots = [source.parent, _package_root(source), *(folder.resolve() for folder in folders)]
    parents = [file for folder in source.parents if (file := folder / "__init__.py").is_file()]
    packages = [file for file in parents if file.is_relative_to(roots[1]) and file.parent != roots[1]]
    found |= {str(file.relative_to(roots[1])): file for file in packages if file != source}
    left = [source, *found.values()]
    for file in left:  # grows
        for base, parts in _imports(file):
            for root in [base] if base is not None else roots:
                if files := _files(root, parts):
                    new = [one for one in files if one not in left]
                    left += new
                    found |= {str(one.relative_to(_name_root(one, roots))): one for one in new}
                    break
    return found


def own_folders() -> list[Path]:
    """The folders of ``sys.path`` that are the user's."""
    return [folder for entry in sys.path if (folder := Path(entry).resolve()).is_dir() and is_own(folder)]


def is_own(path: Path) -> bool:
    """Whether ``path`` is the user's: neither Python's, nor of an installed package, nor of this one."""
    path = path.resolve()
    others = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(mrpo.__file__).resolve().parent)
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(other) for other in others)


def _imports(file: Path) -> Iterator[tuple[Path | None, Parts]]:
    """What ``file`` imports: names, and the folder that they are relative to, None: an absolute import."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):  # to be reported as it is loaded
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((None, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = file.parents[min(node.level, len(file.parents)) - 1] if node.level else None
            module = tuple(node.module.split(".")) if node.module else ()
            yield from ((base, (*module, alias.name)) for alias in node.names)


def _files(root: Path, parts: Parts) -> list[Path]:
    """The files that importing ``parts`` from ``root`` executes."""
    if parts[0] == mrpo.__name__:
        return []
    files, place = [], root
    for part in parts:
        place = place / part
        if (place / "__init__.py").is_file():
            files.append(place / "__init__.py")
        elif place.with_name(f"{part}.py").is_file():
            return [*files, place.with_name(f"{part}.py")]
        elif not place.is_dir():
            break
    return files


def _package_root(file: Path) -> Path:
    """Where the import of the package begins that ``file`` is of."""
    folder = file.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def _name_root(file: Path, roots: Sequence[Path]) -> Path:
    return next((root for root in roots if file.is_relative_to(root)), Path(file.anchor))
