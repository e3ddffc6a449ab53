"""Python packages as source text: what a dotted name stands for, and what a class inherits, without importing anything.

So two releases of one package can be looked at side by side, and neither has to be fit to run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
RAY_CLASS = ".__ray_metadata__.modified_class"
"""How one gets back at the class that ``@ray.remote`` has wrapped."""


def dotted(expression: ast.AST) -> str | None:
    """The expression as a dotted name (``a.b`` of ``a.b[T]``, too); None if it isn't one."""
    if isinstance(expression, ast.Name):
        return expression.id
    if isinstance(expression, ast.Subscript):
        return dotted(expression.value)
    if isinstance(expression, ast.Attribute) and (value := dotted(expression.value)):
        return f"{value}.{expression.attr}".removesuffix(RAY_CLASS)
    return None


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a module or class, those under ``if``, ``try`` and ``with`` too, but not of what it defines."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            yield from statements(child)


def bound_names(statement: ast.AST) -> list[str]:
    """What a definition or an assignment gives a value to."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [name for part in flat if part is not None and (name := dotted(part))]


def bindings(found: Iterable[ast.AST]) -> dict[str, tuple[ast.stmt, ...]]:
    """The statements that bind each name; ``x`` of ``self.x = …`` is called ``self.x``."""
    by_name: dict[str, tuple[ast.stmt, ...]] = {}
    for node in found:
        if isinstance(node, ast.stmt):
            for name in bound_names(node):
                by_name[name] = (*by_name.get(name, ()), node)
    return by_name


@dataclass(frozen=True)
class Definition:
    """What a name stands for. ``nodes``: its statements, several for a property with a setter; none for a module."""

    module: Module
    name: str
    """Within its module, such as ``Class.method``; empty: the module itself."""
    nodes: tuple[ast.stmt, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.module.name}.{self.name}".rstrip(".")

    @property
    def is_function(self) -> bool:
        return any(isinstance(node, FUNCTIONS) for node in self.nodes)

    @property
    def class_node(self) -> ast.ClassDef | None:
        return next((node for node in self.nodes if isinstance(node, ast.ClassDef)), None)


@dataclass(eq=False)
class Module:
    """A parsed file. Of a ``user`` imports in functions count as well: they are what it uses, not what it offers."""

    name: str
    path: Path
    is_user: bool
    tree: ast.Module = field(init=False, repr=False)
    imports: dict[str, str] = field(init=False, default_factory=dict, repr=False)
    stars: list[str] = field(init=False, default_factory=list, repr=False)
    own: dict[str, tuple[ast.stmt, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.path.read_text(encoding="utf-8"))
        for node in ast.walk(self.tree) if self.is_user else statements(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imports.setdefault(alias.asname or name, name)
            elif isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                self.stars += [source for alias in node.names if alias.name == "*"]
                for alias in node.names:
                    self.imports.setdefault(alias.asname or alias.name, f"{source}.{alias.name}")
        self.own = bindings(statements(self.tree))

    @property
    def is_package(self) -> bool:
        return self.path.stem == "__init__"

    def _absolute(self, node: ast.ImportFrom) -> str:
        here = self.name.split(".") + (["__init__"] if self.is_package else [])
        parts = [*(here[: -node.level] if node.level else []), *([node.module] if node.module else [])]
        return ".".join(parts)


class Sources:
    """Looks names up in packages, given as each one's folder by its name; ``user``: the one that uses the others."""

    def __init__(self, folders: Mapping[str, Path], user: str = ""):
        self.folders, self.user = dict(folders), user
        self._modules: dict[str, Module | None] = {}
        self._found: dict[str, Definition | None] = {}
        self._members: dict[str, dict[str, tuple[ast.stmt, ...]]] = {}

    def module(self, name: str) -> Module | None:
        if name not in self._modules:
            package, *rest = name.split(".")
            base = self.folders.get(package, Path("/nowhere")).joinpath(*rest)
            paths = (path for path in (base / "__init__.py", base.with_name(f"{base.name}.py")) if path.is_file())
            path = next(paths, None)
            self._modules[name] = Module(name, path, package == self.user) if path else None
        return self._modules[name]

    def find(self, name: str) -> Definition | None:
        """What ``package.module.Class.method`` stands for, through imports and base classes; None: there is no such."""
        if name not in self._found:
            self._found[name] = None  # ends the search where imports go in a circle
            owner, _, last = name.rpartition(".")
            holder = self.find(owner) if owner else None
            if holder is not None and holder.nodes:
                self._found[name] = self.member(holder, last)
            elif holder is not None:
                self._found[name] = self._in_module(holder.module, last)
            elif module := self.module(name):
                self._found[name] = Definition(module, "")
        return self._found[name]

    def _in_module(self, module: Module, name: str) -> Definition | None:
        # An import comes first: what stands beside it is a fallback (``except ImportError: name = None``).
        if name in module.imports and (imported := self.find(module.imports[name])):
            return imported
        if name in module.own:
            return Definition(module, name, module.own[name])
        found = next((there for star in module.stars if (there := self.find(f"{star}.{name}"))), None)
        if found is None and module.is_package and (submodule := self.module(f"{module.name}.{name}")):
            found = Definition(submodule, "")
        return found

    def mro(self, cls: Definition) -> list[Definition]:
        """The class and its bases in Python's order, without those of packages that aren't known here."""
        assert cls.class_node is not None
        bases = [self.find(f"{cls.module.name}.{dotted(node)}") for node in cls.class_node.bases]
        order = [cls, *(ancestor for base in bases if base and base.class_node for ancestor in self.mro(base))]
        # A base that several inherit from comes after the last of them: the same as C3 wherever that gives an order.
        return [
            one for i, one in enumerate(order) if one.full_name not in {later.full_name for later in order[i + 1 :]}
        ]

    def member(self, cls: Definition, name: str) -> Definition | None:
        """The method, class variable or (failing those) attribute of ``self`` that the class has or inherits."""
        order = self.mro(cls) if cls.class_node else []
        return next((m for wanted in (name, f"self.{name}") for c in order if (m := self.own_member(c, wanted))), None)

    def own_member(self, cls: Definition, name: str) -> Definition | None:
        """The same of the class alone; an attribute of ``self`` by ``self.name``."""
        assert cls.class_node is not None
        if cls.full_name not in self._members:
            attributes = {n: s for n, s in bindings(ast.walk(cls.class_node)).items() if n.startswith("self.")}
            self._members[cls.full_name] = bindings(statements(cls.class_node)) | attributes
        nodes = self._members[cls.full_name].get(name)
        return Definition(cls.module, f"{cls.name}.{name.removeprefix('self.')}", nodes) if nodes else None

    def root(self, definition: Definition) -> str:
        """The full name of a method in the class that first defines it; of anything else, its own."""
        owner, _, name = definition.full_name.rpartition(".")
        cls = self.find(owner)
        order = self.mro(cls) if cls and cls.class_node else []
        return next(
            (there.full_name for c in reversed(order) if (there := self.own_member(c, name))), definition.full_name
        )
