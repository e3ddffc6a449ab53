"""What an upgrade of verl must look at: all that this package overrides, wraps, calls or imports, compared.

::

    python -m mrpo.verl_seam.upgrade                    what this package relies on in the installed verl
    pip install --target /tmp/other --no-deps verl==0.9.0
    python -m mrpo.verl_seam.upgrade /tmp/other         what of it is different there
    python -m mrpo.verl_seam.upgrade /tmp/other --diff  and how

Exits with 0 if nothing is different, 1 if something is, 2 if there is no verl to compare with. verl is read, not
imported. Members are found on ``self``, ``super()``, verl's classes and modules; on any other receiver private ones
only, in all of verl's classes that the package imports. What is reached by ``getattr`` isn't seen.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mrpo.errors import ConfigError
from mrpo.verl_seam.source import FUNCTIONS, Definition, Sources, bindings, dotted

OVERRIDDEN, PATCHED, IMPLEMENTED, USED, IMPORTED = KINDS = (
    "overridden", "patched", "implemented", "used", "imported",
)  # fmt: skip
"""Implemented: abstract in verl, which leaves it to whoever plugs something in."""

NOT_FOUND, GONE, SIGNATURE, NEW, BODY, SAME = STATUSES = (
    "not found", "gone", "signature changed", "newly overridden", "body changed", "unchanged",
)  # fmt: skip
"""Worst first. Not found: imported, but in neither. Newly overridden: only the other verl has what ours overrides."""


class Finding(NamedTuple):
    """One definition of verl's, where it is relied on, and how the other verl differs."""

    status: str
    kind: str
    name: str
    root: str
    """The same method in the class that verl first defines it in: subclasses of it are overridden all at once."""
    sites: list[str]
    old: Definition | None
    new: Definition | None


def is_private(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.endswith("__")


def of_verl(definition: Definition | None) -> bool:
    return definition is not None and definition.name.partition(".")[0] == "verl"


class Reader:
    """Finds every place of a package that relies on verl: how it does, and the definition (None: there is none).

    ``found`` is by the line and the name as our modules know it: those are the same for every verl.
    """

    def __init__(self, package: Path, verl: Path):
        self.sources = Sources({package.name: package, "verl": verl}, user=package.name)
        self.found: dict[tuple[str, str], tuple[str, Definition | None]] = {}
        files = [file.with_suffix("").relative_to(package.parent) for file in sorted(package.rglob("*.py"))]
        names = [".".join(file.parts).removesuffix(".__init__") for file in files]
        modules = [module for name in names if (module := self.sources.module(name))]
        # Of each class, those classes of ours with both it and one of verl's in their MRO.
        self.users: dict[str, list[str]] = {}
        self.imported: list[str] = []
        for module in modules:
            for name in (f"{module.name}.{own}" for own in module.own):
                order = self.sources.mro(self.sources.find(name))
                for base in order if any(map(of_verl, order)) else []:
                    self.users.setdefault(base.name, []).append(name)
            for name, target in module.imports.items():
                there = self.sources.find(target)
                if there and of_verl(there) and there.class_node:
                    self.imported.append(f"{module.name}.{name}")
        for module in modules:
            nodes = list(ast.walk(module.tree))
            classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
            inside = {part: f"{module.name}.{cls.name}" for cls in classes for part in ast.walk(cls)}
            for node in nodes:
                for kind, line, name, there in self._uses(node, module.name, inside.get(node, "")):
                    if of_verl(there) or kind == IMPORTED:
                        self.found[f"{module.path}:{line}", name] = kind, there

    def _uses(self, node: ast.AST, module: str, cls: str) -> Iterator[tuple[str, int, str, Definition | None]]:
        imported: list[str] = []
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.ImportFrom) and not node.level:
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"verl(\.\w+)+", str(node.value)):
            # A module's name in a string is one that somebody imports by it.
            imported = [name for name in [str(node.value)] if self.sources.module(name)]
        elif isinstance(node, ast.ClassDef):
            for name, (first, *_) in bindings(node).items():
                for user in self.users.get(cls, []):
                    order = self.sources.mro(self.sources.find(user))
                    behind = order[[base.name for base in order].index(cls) + 1 :]
                    members = (self.sources.member(base, name) for base in behind if of_verl(base))
                    yield OVERRIDDEN, first.lineno, f"{user}.{name}", next(filter(None, members), None)
        elif isinstance(node, ast.Attribute):
            receiver = dotted(node.value.func if isinstance(node.value, ast.Call) else node.value)
            owners = self.imported if is_private(node.attr) else []
            if receiver in ("self", "cls", "super"):
                owners = self.users.get(cls, [])
            elif of_verl(self.sources.find(f"{module}.{receiver}")):
                owners = [f"{module}.{receiver}"]
            for name in [f"{owner}.{node.attr}" for owner in owners]:
                there = self.sources.find(name)
                replaced = isinstance(node.ctx, ast.Store) and there and (there.is_function or there.class_node)
                yield PATCHED if replaced else USED, line, name, there
        for name in imported:
            if name.partition(".")[0] == "verl":
                yield IMPORTED, line, name, self.sources.find(name)


def compare(package: Path, installed: Path, other: Path) -> list[Finding]:
    """How what ``package`` relies on differs between two folders of verl, worst first."""
    ours, theirs = Reader(package, installed), Reader(package, other)
    groups: dict[tuple[str, str], Finding] = {}
    for use in sorted(ours.found | theirs.found):
        (_, old), (_, new) = ours.found.get(use, ("", None)), theirs.found.get(use, ("", None))
        kind, there = ours.found.get(use) or theirs.found[use]
        if old and kind == OVERRIDDEN and "abstractmethod" in signature(old):
            kind = IMPLEMENTED
        name = there.name if there else use[1]
        found = Finding(status(old, new), kind, name, _root(ours.sources, name), [use[0]], old, new)
        same = groups.setdefault((name, new.name if new else ""), found)
        if KINDS.index(kind) < KINDS.index(same.kind):
            groups[name, new.name if new else ""] = found
        elif kind == same.kind and use[0] not in same.sites:
            same.sites.append(use[0])
    return sorted(groups.values(), key=lambda one: (STATUSES.index(one.status), KINDS.index(one.kind), one.name))


def _root(sources: Sources, name: str) -> str:
    """A member's name in the class of its owner's MRO that first defines it; of anything else, its own."""
    owner, _, last = name.rpartition(".")
    members = [sources.member(cls, last) for cls in sources.mro(sources.find(owner))]
    return next((there.name for there in reversed(members) if there), name)


def status(old: Definition | None, new: Definition | None) -> str:
    if old is None:
        return NEW if new else NOT_FOUND
    if new is None:
        return GONE
    if signature(old) != signature(new):
        return SIGNATURE
    return SAME if _content(old) == _content(new) else BODY


def signature(definition: Definition) -> str:
    """Decorators, arguments and result of a function on one line; empty for anything else."""
    heads = [
        ast.unparse(n).splitlines()[: len(n.decorator_list) + 1] for n in definition.nodes if isinstance(n, FUNCTIONS)
    ]
    return "; ".join(" ".join(head).removesuffix(":") for head in heads)


def _content(definition: Definition) -> list[str]:
    """What of it is compared, without comments and docstrings. Of a class: only that it is there."""
    return [ast.dump(node) for node in definition.nodes if not isinstance(node, ast.ClassDef)]


def totals(findings: Sequence[Finding]) -> str:
    """How much of verl is overridden or replaced while running, implemented, used and imported."""
    roots = {kind: {one.root for one in findings if one.old and one.kind == kind} for kind in KINDS}
    functions = {one.root for one in findings if one.old and one.kind in (OVERRIDDEN, PATCHED) and one.old.is_function}
    methods = {name for name in functions if not name.endswith("__")}
    private = sum(map(is_private, methods))
    return (
        f"{len(methods)} methods overridden or wrapped, {private} private and {len(methods) - private} public; "
        f"{len(functions - methods)} constructors; {len(roots[PATCHED])} patches; {len(roots[IMPLEMENTED])} abstract "
        f"methods implemented; {len(roots[USED])} names used besides, {sum(map(is_private, roots[USED]))} of them "
        f"private; {len(roots[IMPORTED])} imported"
    )


def changes(findings: Sequence[Finding]) -> str:
    """How many differ, by kind and status."""
    parts = []
    for kind in KINDS:
        found = [one.status for one in findings if one.kind == kind]
        differing = [f"{found.count(name)} {name}" for name in STATUSES if name in found and name != SAME]
        parts.append(f"{kind}: {', '.join(differing) or 'none'} of {len(found)}")
    return "; ".join(parts)


def place(definition: Definition | None) -> str:
    """File and line, from verl's folder on."""
    if definition is None:
        return "(none)"
    path = definition.module.path.as_posix()
    return f"{path[path.rindex('/verl/') + 1 :]}:{definition.nodes[0].lineno if definition.nodes else 1}"


def describe(one: Finding, package: Path) -> str:
    private = " (private)" if is_private(one.name) else ""
    there = " → ".join(dict.fromkeys(map(place, (one.old or one.new, one.new))))
    sites = ", ".join(str(Path(site).relative_to(package.parent)) for site in one.sites)
    return f"{one.status}, {one.kind}: {'.'.join(one.name.split('.')[-2:])}{private}\n    {there}\n    by {sites}"


def difference(finding: Finding) -> Iterator[str]:
    """Lines of a unified diff of its source as it is written, comments included."""
    old, new = (list(_lines(one)) if one else [] for one in (finding.old, finding.new))
    return difflib.unified_diff(old, new, place(finding.old), place(finding.new), lineterm="")


def _lines(definition: Definition) -> Iterator[str]:
    lines = definition.module.path.read_text(encoding="utf-8").splitlines()
    for node in definition.nodes:
        first = min(part.lineno for part in [node, *getattr(node, "decorator_list", [])])
        yield from lines[first - 1 : node.end_lineno]


def verl_in(folder: Path) -> Path:
    """verl's folder in a site-packages, a ``pip install --target`` folder or a checkout. Raises ConfigError."""
    if not (folder / "verl" / "__init__.py").is_file():
        raise ConfigError(f"OTHER: given {str(folder)!r}, allowed: a folder that holds verl (verl/__init__.py)")
    return (folder / "verl").resolve()


def version_of(verl: Path) -> str:
    file = verl / "version" / "version"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else "of unknown version"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m mrpo.verl_seam.upgrade", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path, nargs="?", help="a folder that holds another verl")
    parser.add_argument("--diff", action="store_true", help="show each change")
    parser.add_argument("--package", type=Path, default=Path(__file__).parents[1], help="what relies on verl")
    given = parser.parse_args(arguments)
    spec = importlib.util.find_spec("verl")
    try:
        if spec is None or spec.origin is None:
            raise ConfigError("verl is not installed")
        installed = verl_in(Path(spec.origin).parents[1])
        other = verl_in(given.other) if given.other else installed
    except ConfigError as error:
        print(f"mrpo: {error}", file=sys.stderr)
        return 2
    package = given.package.resolve()
    findings = compare(package, installed, other)
    for one in findings:
        if given.other is None or one.status != SAME:
            print(describe(one, package))
        if one.status == SIGNATURE and one.old and one.new:
            print(f"\n- {signature(one.old)}\n+ {signature(one.new)}")
        if given.diff and one.status != SAME:
            print("", *difference(one), "", sep="\n")
    if given.other:
        print(f"\nverl {version_of(installed)} → {version_of(other)}: {changes(findings)}")
    print(f"\nverl {version_of(installed)}: {totals(findings)}")
    return int(any(one.status != SAME for one in findings))


if __name__ == "__main__":
    sys.exit(main())
