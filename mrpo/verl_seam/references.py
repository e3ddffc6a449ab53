"""Every place of a package that relies on verl, found in its source.

Receivers are known where they are ``self``, ``super()``, a class, a module, or annotated. On any other only a private
name is followed, to all of verl's classes that the package imports. What is reached by ``getattr`` isn't seen.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from mrpo.verl_seam.source import FUNCTIONS, Definition, Module, Sources, bindings, dotted

OVERRIDDEN, PATCHED, USED, IMPORTED = "overridden", "patched", "used", "imported"


class Reference(NamedTuple):
    """A place that relies on ``target``; or on the ``method`` that comes ``after`` a class in the MRO of ``target``.

    Names are as our own modules know them (``mrpo.verl_seam.trainer.PPOTrainer``), so that they can be looked up in
    any verl.
    """

    kind: str
    site: str
    target: str
    method: str = ""
    after: str = ""

    def locate(self, sources: Sources) -> Definition | None:
        """The definition of verl's that it reaches in these sources; None if there is none."""
        target = sources.find(self.target)
        if target is None or not self.method:
            return _of_verl(target)
        order = sources.mro(target)
        behind = order[[cls.full_name for cls in order].index(self.after) + 1 :]
        return next(
            (found for cls in behind if _of_verl(cls) and (found := sources.own_member(cls, self.method))), None
        )


def is_private(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.endswith("__")


def _of_verl(definition: Definition | None) -> Definition | None:
    return definition if definition and definition.full_name.partition(".")[0] == "verl" else None


def references(sources: Sources, package: str) -> set[Reference]:
    """All of them. ``sources`` holds ``package`` and verl."""
    root = sources.folders[package]
    files = sorted(file.relative_to(root) for file in root.rglob("*.py"))
    names = [(package, *(file.parent if file.stem == "__init__" else file.with_suffix("")).parts) for file in files]
    known = [module for name in names if (module := sources.module(".".join(name)))]
    users: dict[str, list[str]] = {}
    imported = []
    for module in known:
        for name, nodes in module.own.items():
            cls = Definition(module, name, nodes)
            order = sources.mro(cls) if cls.class_node else []
            if any(map(_of_verl, order)):
                for base in order:
                    users.setdefault(base.full_name, []).append(cls.full_name)
        from_verl = [f"{module.name}.{name}" for name, of in module.imports.items() if of.startswith("verl.")]
        imported += [name for name in from_verl if (there := sources.find(name)) and there.class_node]
    found: set[Reference] = set()
    for module in known:
        visitor = _Visitor(sources, module, users, imported)
        visitor.visit(module.tree)
        found |= visitor.found
    return found


class _Visitor(ast.NodeVisitor):
    """Walks one module. ``users``: of each class of ours, those with it and verl's among their bases."""

    def __init__(self, sources: Sources, module: Module, users: dict[str, list[str]], imported: list[str]):
        self.sources, self.module, self.users, self.imported = sources, module, users, imported
        self.found: set[Reference] = set()
        self.cls = ""
        self.receivers: dict[str, list[str]] = {}
        """The classes of what a name (``self``, ``self.trainer``, an argument) stands for."""

    def add(self, kind: str, node: ast.AST, target: str, method: str = "", after: str = "") -> None:
        site = f"{self.module.path}:{getattr(node, 'lineno', 1)}"
        reference = Reference(kind, site, target, method, after)
        # What overrides nothing here may override something in another verl.
        if kind in (IMPORTED, OVERRIDDEN) or reference.locate(self.sources):
            self.found.add(reference)

    def verl_name(self, expression: ast.AST | None) -> str:
        """The expression, as a name of this module, if it stands for something of verl's."""
        name = f"{self.module.name}.{expression and dotted(expression)}"
        return name if _of_verl(self.sources.find(name)) else ""

    # ---- imports ----

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if (node.module or "").partition(".")[0] == "verl" and not node.level:
            for alias in node.names:
                self.add(IMPORTED, node, f"{node.module}.{alias.name}")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] == "verl":
                self.add(IMPORTED, node, alias.name)

    def visit_Constant(self, node: ast.Constant) -> None:
        """A module's name in a string is one that somebody imports by it."""
        name = node.value if isinstance(node.value, str) else ""
        if re.fullmatch(r"verl(\.\w+)+", name) and self.sources.module(name):
            self.add(IMPORTED, node, name)

    # ---- what receivers are ----

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer = self.cls, self.receivers
        self.cls = f"{self.module.name}.{node.name}"
        users = self.users.get(self.cls, [])
        for name, nodes in bindings(node.body).items():
            for user in users:
                self.add(OVERRIDDEN, nodes[0], user, name, after=self.cls)
        self.receivers = {"self": users, "cls": users}
        for function in [part for part in ast.walk(node) if isinstance(part, FUNCTIONS)]:
            types = self._annotated(function)
            for part in ast.walk(function):
                self.receivers |= _copies(part, types)
        self.generic_visit(node)
        self.cls, self.receivers = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self.receivers = self.receivers, self.receivers | self._annotated(node)
        self.generic_visit(node)
        self.receivers = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def _annotated(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, list[str]]:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        types = {one.arg: self.verl_name(_without_none(one.annotation)) for one in arguments}
        return {argument: [name] for argument, name in types.items() if name}

    # ---- what is done with them ----

    def visit_Call(self, node: ast.Call) -> None:
        if cls := self.verl_name(node.func):
            self.add(USED, node, f"{cls}.__init__")
        if dotted(node.func) == "setattr" and isinstance(name := node.args[1], ast.Constant):
            self.visit_Attribute(ast.Attribute(node.args[0], str(name.value), ast.Store(), lineno=node.lineno))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        receiver, owner = dotted(node.value), self.verl_name(node.value)
        if isinstance(node.value, ast.Call) and dotted(node.value.func) == "super":
            for user in self.users.get(self.cls, []):
                self.add(USED, node, user, node.attr, after=self.cls)
        elif receiver in self.receivers:
            self._members(node, self.receivers[receiver])
        elif owner:
            self._members(node, [owner])
        elif is_private(node.attr):
            self._members(node, self.imported)
        self.generic_visit(node)

    def _members(self, node: ast.Attribute, owners: list[str]) -> None:
        for owner in owners:
            there = self.sources.find(f"{owner}.{node.attr}")
            replaced = isinstance(node.ctx, ast.Store) and there is not None and (there.is_function or there.class_node)
            self.add(PATCHED if replaced else USED, node, f"{owner}.{node.attr}")


def _without_none(annotation: ast.expr | None) -> ast.expr | None:
    return annotation.left if isinstance(annotation, ast.BinOp) else annotation


def _copies(node: ast.AST, types: dict[str, list[str]]) -> dict[str, list[str]]:
    """``self.name = argument``, also several at once: the attribute is what the argument is."""
    if not isinstance(node, ast.Assign):
        return {}
    targets, values = (getattr(side, "elts", [side]) for side in (node.targets[0], node.value))
    pairs = [(dotted(target), dotted(value)) for target, value in zip(targets, values, strict=False)]
    return {to: types[value] for to, value in pairs if to and value in types and to.startswith("self.")}
