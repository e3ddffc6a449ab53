"""Train a recipe.

Everything is checked before anything starts. While it runs, a terminal shows where it stands; Ctrl-C or SIGTERM saves
and ends it with exit code 75, and the same command with the same run_dir goes on.
"""

from __future__ import annotations

from mrpo.cli._app import Overrides, examples, new_app
from mrpo.exit_code import ExitCode

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo train recipe=quickstart",
        "mrpo train recipe=quickstart algorithm.estimator=grpo trainer.total_training_steps=20",
        "mrpo train recipe=quickstart run_dir=runs/mine checkpoint.every=5",
        "mrpo train recipe=quickstart '~rewards.tagged.requires'    # without what the recipe says",
    ),
)
def train(overrides: Overrides = None) -> ExitCode:
    from mrpo.cli._train import train as check_and_run

    return check_and_run(overrides or [])
