"""What an upgrade of verl must look at: all that this package overrides, wraps, calls or imports, compared.

::

    python -m mrpo.verl_seam.upgrade                    what this package relies on in the installed verl
    pip install --target /tmp/other --no-deps verl==0.9.0
    python -m mrpo.verl_seam.upgrade /tmp/other         what of it is different there
    python -m mrpo.verl_seam.upgrade /tmp/other --diff  and how

Exits with 0 if nothing is different, 1 if something is, 2 if there is no verl to compare with. verl is read, not
imported.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from mrpo.errors import ConfigError
from mrpo.verl_seam.references import IMPORTED, OVERRIDDEN, PATCHED, USED, Reference, is_private, references
from mrpo.verl_seam.source import FUNCTIONS, Definition, Sources, bound_names

IMPLEMENTED = "implemented"
"""Abstract in verl, which leaves it to whoever plugs something in."""
KINDS = (OVERRIDDEN, PATCHED, IMPLEMENTED, USED, IMPORTED)

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
    sites: tuple[str, ...]
    old: Definition | None
    new: Definition | None


def compare(package: Path, installed: Path, other: Path) -> list[Finding]:
    """How what ``package`` relies on differs between two folders of verl, worst first."""
    ours, theirs = (Sources({package.name: package, "verl": verl}, user=package.name) for verl in (installed, other))
    groups: dict[tuple[str, str], list[tuple[Reference, Definition | None, Definition | None]]] = {}
    for reference in references(ours, package.name):
        old, new = reference.locate(ours), reference.locate(theirs)
        if old or new or reference.kind == IMPORTED:
            name = (old or new).full_name if old or new else reference.target  # type: ignore[union-attr]
            groups.setdefault((name, new.full_name if new else ""), []).append((reference, old, new))
    findings = []
    for (name, _), found in groups.items():
        _, old, new = found[0]
        kind = min((reference.kind for reference, _, _ in found), key=KINDS.index)
        sites = tuple(sorted({reference.site for reference, _, _ in found if reference.kind == kind}))
        if old and kind == OVERRIDDEN and "abstractmethod" in signature(old):
            kind = IMPLEMENTED
        root = ours.root(old) if old else name
        findings.append(Finding(status(old, new), kind, name, root, sites, old, new))
    return sorted(findings, key=lambda one: (STATUSES.index(one.status), KINDS.index(one.kind), one.name))


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
    heads = [ast.parse(ast.unparse(node)).body[0] for node in definition.nodes if isinstance(node, FUNCTIONS)]
    for head in heads:
        head.body = [ast.Expr(ast.Constant(...))]  # type: ignore[attr-defined]
    return "; ".join(" ".join(ast.unparse(head).split()).removesuffix(": ...") for head in heads)


def _content(definition: Definition) -> list[str]:
    """What of it is compared, without comments and docstrings. Of a class or an attribute: only that it is there."""
    name = definition.name.rpartition(".")[2]
    nodes = [node for node in definition.nodes if name in bound_names(node) and not isinstance(node, ast.ClassDef)]
    copies = [ast.parse(ast.unparse(node)) for node in nodes]
    for function in [part for copy in copies for part in ast.walk(copy) if isinstance(part, FUNCTIONS)]:
        if ast.get_docstring(function, clean=False) is not None:
            function.body = function.body[1:]
    return [ast.dump(copy) for copy in copies]


def totals(findings: Sequence[Finding]) -> str:
    """How much of verl is overridden or replaced while running, implemented, used and imported."""
    here = [one for one in findings if one.old]
    methods = {one.root for one in here if one.kind in (OVERRIDDEN, PATCHED) and one.old and one.old.is_function}
    constructors = {name for name in methods if name.endswith("__")}
    private = {name for name in methods if is_private(name)}
    counts = {kind: {one.root for one in here if one.kind == kind} for kind in KINDS}
    return (
        f"{len(methods - constructors)} methods overridden or wrapped, {len(private)} private and "
        f"{len(methods - constructors - private)} public; {len(constructors)} constructors; "
        f"{len(counts[PATCHED])} patches; {len(counts[IMPLEMENTED])} abstract methods implemented; {len(counts[USED])} "
        f"names used besides, {sum(map(is_private, counts[USED]))} of them private; {len(counts[IMPORTED])} imported"
    )


def changes(findings: Sequence[Finding]) -> str:
    """How many differ, by kind and status."""
    parts = []
    for kind in KINDS:
        differing = [one.status for one in findings if one.kind == kind and one.status != SAME]
        by_status = ", ".join(f"{differing.count(name)} {name}" for name in STATUSES if name in differing)
        parts.append(f"{kind}: {by_status or 'none'} of {sum(one.kind == kind for one in findings)}")
    return "; ".join(parts)


def place(definition: Definition | None) -> str:
    """File and line, from verl's folder on."""
    if definition is None:
        return "(none)"
    path = definition.module.path.as_posix()
    return f"{path[path.rindex('/verl/') + 1 :]}:{definition.nodes[0].lineno if definition.nodes else 1}"


def table(findings: Iterable[Finding], package: Path) -> Table:
    grid = Table("difference", "verl's", "here it is", "by", box=None, pad_edge=False)
    for one in findings:
        last = one.name.split(".")[-2:]
        both = dict.fromkeys(map(place, (one.old or one.new, one.new)))
        grid.add_row(
            one.status,
            ".".join(last) + (" (private)" if is_private(one.name) else "") + "\n  " + "\n→ ".join(both),
            one.kind,
            "\n".join(str(Path(site).relative_to(package.parent)) for site in one.sites),
        )
    return grid


def difference(finding: Finding) -> Iterator[str]:
    """Lines of a unified diff of its source as it is written, comments included."""
    old, new = (
        [line for node in one.nodes for line in _lines(one, node)] if one else [] for one in (finding.old, finding.new)
    )
    return difflib.unified_diff(old, new, place(finding.old), place(finding.new), lineterm="")


def _lines(definition: Definition, node: ast.stmt) -> list[str]:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return definition.module.path.read_text(encoding="utf-8").splitlines()[first - 1 : node.end_lineno]


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
    parser.add_argument(
        "--installed", type=Path, help="a folder with the verl to compare with, if not the installed one"
    )
    parser.add_argument("--package", type=Path, default=Path(__file__).parents[1], help="what relies on verl")
    given = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False, soft_wrap=True)
    spec = importlib.util.find_spec("verl")
    try:
        if given.installed is None and (spec is None or spec.origin is None):
            raise ConfigError("verl is not installed: name a folder that holds it with --installed")
        installed = verl_in(given.installed or Path(str(spec and spec.origin)).parents[1])
        other = verl_in(given.other) if given.other else installed
    except ConfigError as error:
        print(f"mrpo: {error}", file=sys.stderr)
        return 2
    package = given.package.resolve()
    findings = compare(package, installed, other)
    shown = [one for one in findings if given.other is None or one.status != SAME]
    if shown:
        console.print(table(shown, package))
    for one in shown:
        if one.status == SIGNATURE and one.old and one.new:
            print(f"\n{one.name}\n- {signature(one.old)}\n+ {signature(one.new)}")
        if given.diff:
            print("", *difference(one), sep="\n")
    if given.other:
        print(f"\nverl {version_of(installed)} → {version_of(other)}: {changes(findings)}")
    print(f"\nverl {version_of(installed)}: {totals(findings)}")
    return int(any(one.status != SAME for one in findings))


if __name__ == "__main__":
    sys.exit(main())
