"""List the recipes there are, or copy one to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mrpo.cli._app import examples, new_app
from mrpo.cli._complete import complete_recipe
from mrpo.cli._table import table
from mrpo.config.recipes import copy_recipe, list_recipes
from mrpo.exit_code import ExitCode

app = new_app(
    help=__doc__,
    invoke_without_command=True,
    epilog=examples("mrpo recipes", "mrpo recipes copy quickstart recipes/mine    # then: mrpo train recipe=mine"),
)


@app.callback()
def recipes(context: typer.Context) -> ExitCode:
    if context.invoked_subcommand is None:
        rows = ((entry.name, ", ".join(entry.variants), entry.summary) for entry in list_recipes())
        Console().print(table("", ("recipe", "variants", "what it shows"), rows, text_columns=3))
    return ExitCode.DONE


@app.command(epilog=examples("mrpo recipes copy quickstart recipes/mine"))
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The recipe.", autocompletion=complete_recipe)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.")],
) -> ExitCode:
    """Copy a recipe's folder: configuration, rewards and scripts."""
    print(copy_recipe(name, folder))
    return ExitCode.DONE
