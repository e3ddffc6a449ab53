"""Ray's own node without the processes that only watch it: API server, autoscaler, log monitor. Ray 2.60.

``ray.init`` has no switch for them, and waits until the first has done its imports. They serve Ray's web page and its
state API, clusters that grow, and what workers print in the driver's terminal; a run has none of these, and its logs
are collected from Ray's folder. They would take seconds of every start, and two hundredths of a core for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private.node import Node

WATCHERS = ("start_api_server", "start_monitor", "start_log_monitor")


@contextmanager
def without_watchers() -> Iterator[None]:
    """A node that starts inside has none of them."""
    kind: Any = Node
    starts = {name: getattr(kind, name) for name in WATCHERS}
    for name in WATCHERS:
        setattr(kind, name, _start_nothing)
    try:
        yield
    finally:
        for name, start in starts.items():
            setattr(kind, name, start)


def _start_nothing(self: Node, **_: Any) -> None:
    """In place of each."""
