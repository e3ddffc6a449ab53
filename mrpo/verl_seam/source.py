"""Python packages as source text: what a dotted name stands for, and what a class inherits, without importing anything.

So two releases of one package can be looked at side by side, and neither has to be fit to run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
RAY_CLASS = ".__ray_metadata__.modified_class"
"""How one gets back at the class that ``@ray.remote`` has wrapped."""


def dotted(expression: ast.AST) -> str:
    """The expression as a dotted name (``a.b`` of ``a.b[T]``, too); empty if it isn't one."""
    if isinstance(expression, ast.Name):
        return expression.id
    if isinstance(expression, ast.Subscript):
        return dotted(expression.value)
    if isinstance(expression, ast.Attribute) and (value := dotted(expression.value)):
        return f"{value}.{expression.attr}".removesuffix(RAY_CLASS)
    return ""


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a module or class, those under ``if``, ``try`` and ``with`` too, but not of what it defines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            yield from statements(child)


def bindings(node: ast.AST) -> dict[str, list[ast.stmt]]:
    """What a module or class defines or assigns, by name; of a property with a setter, both functions."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in statements(node):
        if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            found.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            for part in ast.walk(statement):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    found.setdefault(part.id, []).append(statement)
    return found


class Module:
    """A parsed file without its docstrings. With ``inner_imports``, those in functions count as the module's, too."""

    def __init__(self, name: str, path: Path, inner_imports: bool):
        self.name, self.path = name, path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTIONS) and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        self.own = bindings(self.tree)
        self.imports: dict[str, str] = {}
        self.stars: list[str] = []
        for node in ast.walk(self.tree) if inner_imports else statements(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    shown = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imports.setdefault(alias.asname or shown, shown)
            elif isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                self.stars += [source for alias in node.names if alias.name == "*"]
                for alias in node.names:
                    self.imports.setdefault(alias.asname or alias.name, f"{source}.{alias.name}")

    def _absolute(self, node: ast.ImportFrom) -> str:
        here = [*self.name.split("."), *(["__init__"] if self.path.stem == "__init__" else [])]
        return ".".join(filter(None, [*(here[: -node.level] if node.level else []), node.module]))


class Definition(NamedTuple):
    """What a dotted name stands for. ``nodes``: its statements, several for a property; none for a module."""

    module: Module
    name: str
    nodes: Sequence[ast.stmt | ast.Attribute]

    @property
    def is_function(self) -> bool:
        return any(isinstance(node, FUNCTIONS) for node in self.nodes)

    @property
    def class_node(self) -> ast.ClassDef | None:
        return next((node for node in self.nodes if isinstance(node, ast.ClassDef)), None)


class Sources:
    """Looks names up in packages, given as each one's folder by its name; ``user``: the one that uses the others."""

    def __init__(self, folders: dict[str, Path], user: str):
        self.folders, self.user = folders, user
        self._modules: dict[str, Module | None] = {}
        self._found: dict[str, Definition | None] = {}
        self._members: dict[str, dict[str, Sequence[ast.stmt | ast.Attribute]]] = {}

    def module(self, name: str) -> Module | None:
        if name not in self._modules:
            package, *rest = name.split(".")
            base = self.folders.get(package, Path("/nowhere")).joinpath(*rest)
            paths = [path for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file()]
            self._modules[name] = Module(name, paths[0], inner_imports=package == self.user) if paths else None
        return self._modules[name]

    def find(self, name: str) -> Definition | None:
        """What ``package.module.Class.method`` stands for, through imports and base classes; None: there is no such."""
        if name not in self._found:
            self._found[name] = None  # ends the search where imports go in a circle
            owner, _, last = name.rpartition(".")
            holder = self.find(owner) if owner else None
            if holder is None:
                module = self.module(name)
                self._found[name] = Definition(module, name, []) if module else None
            elif holder.nodes:
                self._found[name] = next((there for cls in self.mro(holder) if (there := self.member(cls, last))), None)
            else:
                self._found[name] = self._in_module(holder.module, last)
        return self._found[name]

    def _in_module(self, module: Module, name: str) -> Definition | None:
        # An import comes first: what stands beside it is a fallback (``except ImportError: name = None``).
        if name in module.imports and (imported := self.find(module.imports[name])):
            return imported
        full_name = f"{module.name}.{name}"
        if name in module.own:
            return Definition(module, full_name, module.own[name])
        submodule = self.module(full_name)
        elsewhere = (there for star in module.stars if (there := self.find(f"{star}.{name}")))
        return next(elsewhere, Definition(submodule, full_name, []) if submodule else None)

    def mro(self, cls: Definition | None) -> list[Definition]:
        """The class and its bases in Python's order, without those of packages that aren't known here."""
        if cls is None or cls.class_node is None:
            return []
        bases = [self.find(f"{cls.module.name}.{dotted(node)}") for node in cls.class_node.bases]
        order = [cls, *(ancestor for base in bases for ancestor in self.mro(base))]
        # A base that several inherit from comes after the last of them: the same as C3 wherever that gives an order.
        return [one for i, one in enumerate(order) if one.name not in {later.name for later in order[i + 1 :]}]

    def member(self, cls: Definition, name: str) -> Definition | None:
        """The method, class variable or attribute of ``self`` that the class itself defines."""
        assert cls.class_node is not None
        if cls.name not in self._members:
            found = self._members[cls.name] = {**bindings(cls.class_node)}
            for node in ast.walk(cls.class_node):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node.value) == "self":
                    found.setdefault(node.attr, [node])
        nodes = self._members[cls.name].get(name)
        return Definition(cls.module, f"{cls.name}.{name}", nodes) if nodes else None
