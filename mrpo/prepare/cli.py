'''The frame of a prepare script, which ``mrpo train`` runs with ``--out FOLDER --seed SEED``::

"""Make the rows: ``python prepare.py --out FOLDER --seed SEED``."""

from mrpo.prepare.cli import Options, arguments, run


def main(options: Options) -> None:
    ...


if __name__ == "__main__":
    run(main, arguments(__doc__))
'''

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mrpo.errors import ConfigError

DOWNLOAD, SAMPLE = "download", "sample"


class Options(argparse.Namespace):
    """What the script was called with; what it asks for besides (``parser.add_argument``) is an attribute, too."""

    out: Path
    """A folder, which is there when ``main`` begins. ``mrpo train`` passes one that is empty."""
    seed: int
    source: Path | None
    """A folder that holds the public files, anywhere in it. None: download them."""


def arguments(doc: str | None, source: bool = False, sample: Path | None = None) -> argparse.ArgumentParser:
    """A parser of ``--out`` and ``--seed``, to which a script adds what else it takes.

    Args:
        doc: the script's docstring; its first line is the help.
        source: whether there is ``--source FOLDER``, too, or ``--source download``, the default.
        sample: the folder that ``--source sample`` stands for, if the recipe comes with an excerpt.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--seed", type=int, default=0)
    if source:
        allowed = f"folder of local copies, or {DOWNLOAD}" + (f", or {SAMPLE}" if sample else "")
        parser.add_argument("--source", type=partial(_folder, sample=sample), default=DOWNLOAD, help=allowed)
    return parser


def run(main: Callable[[Options], None], parser: argparse.ArgumentParser, given: Sequence[str] | None = None) -> None:
    """Call ``main`` with what the command line says, and print the seconds that it took.

    A ConfigError ends the program with its one line and exit code 1. ``given`` replaces the command line in tests.
    """
    options = parser.parse_args(given, namespace=Options())
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    try:
        main(options)
    except ConfigError as error:
        sys.exit(str(error))
    print(f"{time.monotonic() - start:.0f} s")


def _folder(given: str, sample: Path | None) -> Path | None:
    if given == DOWNLOAD:
        return None
    return sample if given == SAMPLE and sample is not None else Path(given).expanduser()
