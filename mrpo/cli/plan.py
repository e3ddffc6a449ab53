"""Check a recipe and show what its run would take.

That is actors, nodes, batches, memory and data. Nothing is started or written. cluster=FILE.yaml is the file that mrpo
launch takes, for SLURM or for Kubernetes. The exit code is 1 if something speaks against the run, 2 if the
configuration is wrong.
"""

from __future__ import annotations

from typing import Annotated

import typer

from mrpo.cli._app import Overrides, examples, new_app
from mrpo.exit_code import ExitCode

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo plan recipe=quickstart",
        "mrpo plan recipe=quickstart cluster=slurm.yaml rollout.replicas=4",
        "mrpo plan recipe=math_length/multi_node trainer.device=gpu --full",
        "mrpo plan recipe=quickstart rollout.replicas=2 --like latest",
        "mrpo plan recipe=quickstart --tokens-per-second rollout=2500,train=9000",
    ),
)
def plan(
    overrides: Overrides = None,
    full: Annotated[bool, typer.Option("--full", help="Show the whole configuration, defaults included.")] = False,
    like: Annotated[
        str | None, typer.Option(help="A run (folder, name, or latest) whose speed tells how long a step would take.")
    ] = None,
    tokens_per_second: Annotated[
        str | None,
        typer.Option(help="The same by numbers: rollout=A,train=B, of one engine and of one rank."),
    ] = None,
) -> ExitCode:
    from mrpo.cli._plan import plan as show_plan

    return show_plan(overrides, full, like, tokens_per_second)
