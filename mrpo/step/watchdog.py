"""Tell what a run waits for when nothing has moved for a while, and end it when nothing moves at all."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ray

from mrpo.config.checkpoint import WatchdogConfig
from mrpo.driver.other_nodes import on_other_nodes

GAVE_UP = 70
"""Exit code of the controller (EX_SOFTWARE)."""


class Watchdog:
    """Looks once a second, in a thread. ``moved`` says that the run does something.

    Args:
        config: after how many seconds.
        waits_for: what the run waits for just now, in words.
        tell: called once for each standstill that lasts for ``config.warn``.
        give_up: called when one has lasted for ``config.limit``.
        clock: seconds.
    """

    def __init__(
        self,
        config: WatchdogConfig,
        waits_for: Callable[[], str],
        tell: Callable[[str], None],
        give_up: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.config, self.waits_for, self.tell, self.give_up, self.clock = config, waits_for, tell, give_up, clock
        self.since = clock()
        self.told = False

    def moved(self) -> None:
        self.since, self.told = self.clock(), False

    def look(self) -> None:
        still = self.clock() - self.since
        if still >= self.config.limit:
            self.give_up(f"nothing has moved for {still:.0f} s: {self._what()}")
        elif still >= self.config.warn and not self.told:
            self.told = True
            self.tell(f"nothing has moved for {still:.0f} s: {self._what()}")

    def _what(self) -> str:
        try:
            return self.waits_for()
        except Exception as error:  # not to know it must not end the watch
            return f"nobody could say for what ({type(error).__name__}: {error})"

    def start(self) -> None:
        def watch() -> None:
            while True:
                time.sleep(1)
                self.look()

        threading.Thread(target=watch, name="watchdog", daemon=True).start()


def located(actors: list[ray.actor.ActorHandle]) -> str:
    """Process and node of each actor, for a person who goes looking."""
    table = ray._private.state.actors()
    known = [table[actor._actor_id.hex()] for actor in actors if actor._actor_id.hex() in table]
    return ", ".join(f"process {actor['Pid']} on {actor['Address']['IPAddress']}" for actor in known)


def dump_stacks() -> None:
    """Have every process that listens (``verl_seam.plugin``), on all nodes, write its threads' stacks to its log."""
    pids: dict[str, list[int]] = {}
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE":
            pids.setdefault(actor["Address"]["NodeID"], []).append(actor["Pid"])
    _ask_for_stacks(pids)
    faulthandler.dump_traceback(all_threads=True)
    on_other_nodes(_ask_for_stacks, pids, seconds=20)
    time.sleep(2)  # they write it by themselves


def _ask_for_stacks(pids: dict[str, list[int]]) -> None:
    """``pids`` by node; those of this one are asked."""
    for pid in pids.get(ray.get_runtime_context().get_node_id(), []):
        if _listens(pid):
            os.kill(pid, signal.SIGUSR2)


def _listens(pid: int) -> bool:
    """Whether the process handles SIGUSR2; one that doesn't would die of it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(caught >> (signal.SIGUSR2 - 1) & 1)
