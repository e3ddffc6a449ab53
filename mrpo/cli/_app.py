"""What the commands share: how help looks, how a wrong command is refused, and arguments that several take."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mrpo.cli._complete import complete_override, complete_run
from mrpo.errors import ConfigError, unknown_name


class Group(TyperGroup):
    """A command that has commands of its own. A missing or wrong one is refused in the project's words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            raise ConfigError(f"{_path(ctx)}no command given. Allowed: {', '.join(self.list_commands(ctx))}.")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            raise unknown_name(_path(ctx).rstrip(": "), args[0], self.list_commands(ctx), noun="command")
        return super().resolve_command(ctx, args)


def _path(ctx: Any) -> str:
    """``launch: `` of ``mrpo launch``; nothing of ``mrpo`` itself, with which every message begins."""
    names = ctx.command_path.split()[1:]
    return f"{' '.join(names)}: " if names else ""


def new_app(group: type[TyperGroup] = Group, **settings: Any) -> typer.Typer:
    """An app for one command, or for several (then ``help`` is among the settings)."""
    settings = {"add_completion": False, "context_settings": {"help_option_names": ["-h", "--help"]}, **settings}
    return typer.Typer(cls=group, rich_markup_mode=None, **settings)


def show_notes(notes: Iterable[str]) -> None:
    """Say on stderr what a user should know of a run that is fine."""
    for note in notes:
        print(f"mrpo: {note}", file=sys.stderr)


def examples(*lines: str) -> str:
    """Command lines for the end of a help text, as they are; say what one does behind a ``#``.

    >>> examples("mrpo doctor").splitlines()[1:]
    ['Examples:', '  mrpo doctor']
    """
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="recipe=NAME|key=value",
        help="The recipe, and settings in Hydra's grammar: those of mrpo/config/run.py, and verl's own below verl.",
        autocompletion=complete_override,
        show_default=False,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="key=value",
        help="Settings that differ, as for mrpo train.",
        autocompletion=complete_override,
        show_default=False,
    ),
]
RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="A run's folder, or its name below --runs; the latest if not given.",
        autocompletion=complete_run,
        show_default=False,
    ),
]
Runs = Annotated[str, typer.Option("--runs", metavar="FOLDER", help="Where runs lie.")]
