"""Write a trained model as a Hugging Face folder.

Of a run's newest checkpoint, that of step=N, or the best one by checkpoint.best_metric (step=best): for transformers,
vLLM and the hub, with tokenizer, chat template and a model card. It takes no GPU, and the memory of two tensors; the
run may go on meanwhile. Of a run with LoRA it is the adapter, in PEFT's format.
"""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mrpo.cli._app import examples, new_app, show_notes
from mrpo.cli._complete import complete_run
from mrpo.config.overrides import take
from mrpo.errors import ConfigError, unknown_name
from mrpo.exit_code import ExitCode
from mrpo.export.choose import parse_which
from mrpo.export.folder import require_new
from mrpo.record.run_folder import RunFolder

app = new_app()
DTYPES = ("bfloat16", "float32")


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo export latest --out my-model",
        "mrpo export runs/mine step=200 --out my-model --dtype float32",
        "mrpo export runs/mine step=best --out merged --merge     # a LoRA run as a whole model",
    ),
)
def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's folder, or its name below runs.", autocompletion=complete_run)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder to make; it may not exist.")],
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="step=N|last|best", help="The checkpoint; the newest whole one by default."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="bfloat16|float32", help="Default: what the run's engines had.")
    ] = None,
    shard_size: Annotated[str, typer.Option("--shard-size", metavar="SIZE", help="Largest file.")] = "5GB",
    merge: Annotated[bool, typer.Option("--merge", help="Merge a LoRA adapter into the weights.")] = False,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", metavar="FOLDER", help="Where to download a checkpoint to. Default: beside --out."),
    ] = None,
) -> ExitCode:
    exported = RunFolder.find(run)
    if not exported.config.is_file():
        raise ConfigError(f"run: {exported.path} holds no config.yaml. Allowed: a run's folder.")
    given, rest = take(which or [], "step")
    if rest:
        raise ConfigError(f"export: given {rest[0]}, allowed: step=N, step=last or step=best.")
    chosen = parse_which(given.get("step", "last"))
    if dtype is not None and dtype not in DTYPES:
        raise unknown_name("--dtype", dtype, DTYPES)
    if not re.fullmatch(r"[1-9]\d*(KB|MB|GB|TB)", shard_size):
        raise ConfigError(f"--shard-size: given {shard_size}, allowed: a whole number of KB, MB, GB or TB, say 5GB.")
    require_new(out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left of it
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("import torch", total=None)
        from mrpo.export.model import Options  # torch, which a refused command doesn't wait for
        from mrpo.export.model import export as write

        def report(what: str, done: int, size: int) -> None:
            progress.update(task, description=what, completed=done, total=size or None)

        written = write(exported, chosen, out, Options(dtype, shard_size, merge, scratch), report)
    show_notes(f"{skipped.name} was passed by: {skipped.reason}" for skipped in written.skipped)
    print(f"{written.folder}: step {written.step}, {written.dtype}, {written.size / 1e6:,.1f} MB")
    return ExitCode.DONE
