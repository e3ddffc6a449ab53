"""Lay runs side by side, those there are or those of a grid.

RUN is a run's folder or its name below --runs, a folder that this command has filled, others' metrics.jsonl or CSV
(wandb's exports, too) or a folder of TensorBoard's events. GROUP=RUN puts it into a group; other runs are grouped by
what differs in their settings, except the seed. Runs that failed or were interrupted are named and left out.

With recipe=NAME a grid is run first: every combination of the values that settings are given with commas, in a grid's
YAML file or here, one cell after another, each as mrpo train would in a process of its own. The same command goes on
where it was. cluster=FILE.yaml, as mrpo launch takes it, submits the cells to SLURM or Kubernetes instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrpo.cli._app import Runs, examples, new_app
from mrpo.cli._complete import complete_override
from mrpo.exit_code import ExitCode

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo compare runs/grpo-0 runs/grpo-1 runs/gdpo-0 runs/gdpo-1 --target correct=.8",
        "mrpo compare trl=out/seed0/metrics.csv trl=out/seed1/metrics.csv ours=latest --reward correct=rewards/acc",
        "mrpo compare recipe=quickstart algorithm.estimator=grpo,gdpo seed=0,1,2 --out comparisons/estimators",
        "mrpo compare recipe=quickstart grid.yaml --out comparisons/weights --budget rollouts=6400 --dry-run",
    ),
)
def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|recipe=NAME key=a,b",
            help="Runs, or a recipe and a grid.",
            autocompletion=complete_override,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write tables, figure and page there; a grid's runs, too.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="The group that others are compared with; the first by default.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(metavar="REWARD=VALUE", help="Say when this was reached; may be repeated.")
    ] = None,
    pareto: Annotated[str | None, typer.Option(metavar="A,B", help="The Pareto front of two rewards.")] = None,
    per: Annotated[
        str | None,
        typer.Option(metavar="AXIS", help="Align by steps (the default), rollouts, tokens or seconds."),
    ] = None,
    reward: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COLUMN", help="Which column of others' files is a reward.")
    ] = None,
    unfinished: Annotated[bool, typer.Option(help="Count runs that haven't ended well, as far as they are.")] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="UNIT=N", help="Equal rollouts, tokens or seconds for each cell of a grid.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the cells of a grid.")] = False,
    runs: Runs = "runs",
) -> ExitCode:
    from mrpo.cli._compare import compare as run_or_compare

    return run_or_compare(words, out, baseline, target, pareto, per, reward, unfinished, budget, dry_run, runs)
