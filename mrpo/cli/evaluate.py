"""Score checkpoints and models on validation data, side by side.

A TARGET is a run (its newest checkpoint, or that of step=N|last|best; its model if it has no checkpoints), a
checkpoint's folder, a model's Hugging Face folder, or OWNER/NAME on the hub. Data, rewards and sampling are those of
the first target's run, or of recipe=NAME, whose model.path is evaluated where no target is given. Every target gets
the same prompts and sampling seeds; all others are compared with the first, prompt by prompt.

The numbers are also in evaluation.json, and each response with its scores in validation_rollouts, both in the folder
that the command names: RUN/evaluations/…, or evaluations/… without a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrpo.cli._app import examples, new_app
from mrpo.cli._complete import complete_run
from mrpo.exit_code import ExitCode

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo evaluate latest                    # on the recipe's data.val_files",
        "mrpo evaluate latest HuggingFaceTB/SmolLM2-135M-Instruct",
        "mrpo evaluate runs/mine step=200 data.val_files=[aime.parquet]",
        "mrpo evaluate runs/mine rollout.val_kwargs='{n: 16, temperature: 0.6}'   # pass@16",
        "mrpo evaluate recipe=quickstart model.path=exported --json scores.json",
    ),
)
def evaluate(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET|key=value",
            help="What to evaluate, and settings as for mrpo train.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write evaluation.json there as well.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that somebody else's run folder names.")] = False,
) -> ExitCode:
    from mrpo.cli._evaluate import evaluate as check_and_evaluate

    return check_and_evaluate(words, json_file, trust)
