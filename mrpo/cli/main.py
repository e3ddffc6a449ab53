"""``mrpo COMMAND …``: finds the command's module, and shows what went wrong."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from mrpo.cli._app import Group, new_app
from mrpo.errors import ConfigError, MrpoError, printable
from mrpo.exit_code import ExitCode
from mrpo.registry import module_names
from mrpo.resources import cache_root


class Commands(Group):
    """The modules of this package. Only the one that is called is imported; of the others, the docstring is read."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in module_names("mrpo.cli") if name != "main"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in self.list_commands(ctx):
            command = typer.main.get_command(importlib.import_module(f"mrpo.cli.{cmd_name}").app)
            command.name = cmd_name
            self.commands[cmd_name] = command
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._summarize(ctx)
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self._summarize(ctx)
        return super().shell_complete(ctx, incomplete)

    def _summarize(self, ctx: Any) -> None:
        for name in self.list_commands(ctx):
            source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
            summary = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
            self.commands[name] = TyperCommand(name, help=summary, rich_markup_mode=None)


app = new_app(Commands, add_completion=True)


@app.callback()
def _mrpo() -> None:
    """Post-train language models with several rewards at once.

    mrpo COMMAND --help says what a command takes, with examples.
    """


def invoke(arguments: list[str]) -> int:
    """Run one command line in this process, and return its exit code.

    Raises:
        MrpoError: something that a user can mend.
    """
    if not arguments:
        invoke(["--help"])
        return ExitCode.BAD_INPUT
    try:
        return typer.main.get_command(app).main(arguments, prog_name="mrpo", standalone_mode=False) or 0
    except typer.TyperException as error:  # a wrong or missing option, in typer's words
        context = getattr(error, "ctx", None)
        help_of = context.command_path if context else "mrpo"
        raise ConfigError(f"{error.format_message().rstrip('.')}. See: {help_of} --help") from None


def main() -> None:
    """Entry point. Exit codes: see ``mrpo.exit_code``."""
    # Compiled code. torch's default is a folder in /tmp whose name anybody can take first, made as torch is imported.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "torchinductor"))
    try:
        code = invoke(sys.argv[1:])
    except MrpoError as error:
        print(f"mrpo: {printable(str(error))}", file=sys.stderr)
        code = error.exit_code
    except RecursionError:
        print("mrpo: what was given is nested too deeply", file=sys.stderr)
        code = ExitCode.BAD_INPUT
    except OSError as error:
        if error.errno is None:
            raise
        name = f"{error.filename!s:.300}: " if error.filename else ""
        print(f"mrpo: {name}{error.strerror}", file=sys.stderr)
        code = ExitCode.FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
