"""``mrpo train`` as a process that a test stops, kills or damages at an instant of its choice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from tests.faults.kill_resume import kill_tree

from .conftest import SECONDS


class Command:
    """One ``mrpo train`` on ``folder``, from its start to its end."""

    def __init__(self, folder: RunFolder, *overrides: str):
        self.folder, self.before = folder, len(_events(folder))
        self._all: list[Record] | None = None
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart", f"run_dir={folder.path}"]
        with open(self.output, "ab") as out:
            self.process = subprocess.Popen([*command, *overrides], stdout=out, stderr=out, start_new_session=True)

    @property
    def output(self) -> str:
        return str(self.folder.path.with_suffix(".out"))

    @property
    def events(self) -> list[Record]:
        """What this command has done so far, in order; once it has ended, all that it did."""
        return _events(self.folder)[self.before :] if self._all is None else self._all

    def count(self, phase: str) -> int:
        return sum(event["phase"] == phase for event in self.events)

    def wait_for(self, phase: str, step: int | None, attempt: int = 1) -> None:
        """Until this command's ``attempt`` is in ``phase`` of ``step``."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            events = self.events
            begins = [index for index, event in enumerate(events) if event["phase"] == Phase.ATTEMPT]
            if len(begins) >= attempt and any(
                (event["phase"], event["step"]) == (phase, step) for event in events[begins[attempt - 1] :]
            ):
                return
            assert self.process.poll() is None, self.last_words()
            time.sleep(0.02)
        raise AssertionError(f"{phase} of step {step} never came: {self.last_words()}")

    def processes(self, name: str) -> list[psutil.Process]:
        """The run's processes whose command line holds ``name``."""
        tree = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in tree if name in " ".join(child.cmdline())]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """As a terminal's Ctrl-C does: to all that is in the group."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole tree."""
        kill_tree(self.process)

    def ends(self) -> int:
        """Its exit code."""
        code = self.process.wait(SECONDS)
        self._all = self.events
        return code

    def last_words(self) -> str:
        with open(self.output, errors="replace") as out:
            return f"{[(event['phase'], event['step']) for event in self.events]}\n{out.read()[-3000:]}"


def _events(folder: RunFolder) -> list[Record]:
    return folder.events() if folder.events_file.exists() else []
