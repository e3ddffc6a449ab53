"""Ray's own node as a run wants it: nothing that only watches it, and out of reach of the terminal. Ray 2.60.

``ray.init`` has no switch for API server, autoscaler and log monitor, and waits until the first has done its imports.
They serve Ray's web page and its state API, clusters that grow, and what workers print in the driver's terminal; a run
has none of these, and its logs are collected from Ray's folder. They would take seconds of every start, and two
hundredths of a core for good. The node's agent, which Ray needs, does without what it does for them.

A signal to the command's process group, as ``timeout`` and a terminal that is closed send it, is for the command, which
then saves. Ray's processes would end by it first, so they have a session of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ray._private import services
from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD_AGENT

WATCHERS = ("start_api_server", "start_monitor", "start_log_monitor")
AGENT = Path(__file__).with_name("minimal_agent.py")
PYTHON = "_build_python_executable_command_memory_profileable"
"""Gives the beginning of the command of one of Ray's programs, before the program's file."""


@contextmanager
def bare_node() -> Iterator[None]:
    """A node that starts inside is one."""
    kind: Any = Node
    module: Any = services
    starts = {name: getattr(kind, name) for name in WATCHERS}
    popen, python = module.ConsolePopen, getattr(module, PYTHON)

    def with_minimal_agent(component: str, *rest: Any) -> list[str]:
        return python(component, *rest) + [str(AGENT)] * (component == PROCESS_TYPE_DASHBOARD_AGENT)

    for name in WATCHERS:
        setattr(kind, name, _start_nothing)
    module.ConsolePopen = partial(popen, start_new_session=True)
    setattr(module, PYTHON, with_minimal_agent)
    try:
        yield
    finally:
        module.ConsolePopen = popen
        setattr(module, PYTHON, python)
        for name, start in starts.items():
            setattr(kind, name, start)


def _start_nothing(self: Node, **_: Any) -> None:
    """In place of each."""
