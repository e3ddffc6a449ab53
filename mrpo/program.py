"""Run another program to its end while something is watched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

POLL_SECONDS = 0.25


def run_and_poll(
    command: Sequence[str], output: IO, poll: Callable[[], None], environment: Mapping[str, str] | None = None
) -> int:
    """Run a program to its end, calling ``poll`` a few times a second; it is killed if that raises.

    Args:
        output: gets what it prints, errors too.
        environment: default: this process's.

    Returns:
        Its exit code.
    """
    process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment)
    try:
        while process.poll() is None:
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                poll()
    finally:
        process.kill()
    return process.returncode
