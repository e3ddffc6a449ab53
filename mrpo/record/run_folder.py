"""The one place that knows how a run lies on disk.

::

    runs/latest -> quickstart-20260131-120000
    runs/quickstart-20260131-120000/
      config.yaml          the resolved config
      events.jsonl         a line as each phase begins: time, phase, step or null, detail
      metrics.jsonl        a line a step: step, time, and every metric under its name (mrpo.record.metrics)
      rollouts/<step>.jsonl  a line a rollout: step, uid, sample, prompt, response, ground_truth, rewards by name
                           (null: not applicable or failed), advantage, keep, tokens, truncated, versions (first
                           and last step whose weights sampled it); where there are any,
                           failures and details (what else reward functions returned) by reward
      tokens/<step>.jsonl.gz  a line for some of these rollouts: each token's text, log-probability and advantage
                           (mrpo.record.token_file; observe.tokens)
      validation_rollouts/<step>.jsonl  the same for a validation, and data_source; a prompt's uid is its content's
      logs/                what every actor printed, and in rewards/ what reward functions did
      checkpoints/         a folder a checkpoint, each with a manifest
      model/               what was trained, as a Hugging Face folder (trainer.export)
      stop                 made to ask the run to save and end
      report.png, report_details.png, report.html
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrpo.errors import ConfigError, unknown_name, usable
from mrpo.record import jsonl, token_file
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase

LATEST = "latest"
"""Below ``runs``, the link to the newest run."""


class RunFolder:
    """A run's folder. It holds nothing but the path, so any process can open the same run."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.config, self.events_file, self.metrics_file = (
            self.path / name for name in ("config.yaml", "events.jsonl", "metrics.jsonl")
        )
        self.rollouts, self.logs, self.checkpoints = (self.path / n for n in ("rollouts", "logs", "checkpoints"))
        self.reward_logs, self.tool_logs = self.logs / "rewards", self.logs / "tools"
        self.model = self.path / "model"
        self.validation_rollouts, self.tokens = self.path / "validation_rollouts", self.path / "tokens"
        self.scratch = self.path / "scratch"
        """Where checkpoints are that are on their way to or from an object store."""
        self.stop_file = self.path / "stop"
        """While it exists, the run saves and ends as soon as it can."""
        self.png, self.html = self.path / "report.png", self.path / "report.html"
        self.details_png = self.path / "report_details.png"

    @property
    def name(self) -> str:
        return self.path.resolve().name

    # ---- finding and making a run ----

    @classmethod
    def create(cls, recipe: str, config: str, runs: str | os.PathLike[str] = "runs") -> RunFolder:
        """Make a new folder under ``runs``, named by recipe and time, and point ``runs/latest`` at it.

        Args:
            recipe: a name; characters that don't belong in a folder's name become "-".
            config: the resolved config as YAML text.
        """
        base = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', recipe).strip('-.') or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"
        Path(runs).mkdir(parents=True, exist_ok=True)
        number = 1
        while True:  # mkdir decides who gets a name, so two runs started in the same second can't share a folder
            path = Path(runs, base if number == 1 else f"{base}-{number}")
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
        folder = cls(path)
        for part in (folder.rollouts, folder.logs, folder.checkpoints):
            part.mkdir()
        folder.config.write_text(config, encoding="utf-8")
        link = Path(runs, f".latest.{os.getpid()}")
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, Path(runs, LATEST))
        return folder

    @classmethod
    def find(cls, run: str | None = None, runs: str | os.PathLike[str] = "runs") -> RunFolder:
        """An existing run, by path or by its name under ``runs``; the latest one if ``run`` is None.

        Raises:
            ConfigError: there is no such run, or the folder isn't one.
        """
        choices = [Path(run), Path(runs, run)] if run is not None else [Path(runs, LATEST)]
        path = next((choice for choice in choices if choice.is_dir()), None)
        if path is None and run is None:
            raise ConfigError(f"run: none given, and there is no {choices[0]}. Allowed: a run's folder or its name.")
        if path is None:
            names = [entry.name for entry in Path(runs).iterdir() if entry.is_dir()] if Path(runs).is_dir() else []
            raise unknown_name(f"run (a folder, or a name under {runs})", run, names)
        folder = cls(path.resolve())
        known = (folder.config, folder.events_file, folder.metrics_file)
        if not any(file.exists() for file in known):
            raise ConfigError(f"run: {path} is not a run's folder: it has none of {', '.join(f.name for f in known)}.")
        return folder

    def require_own(self) -> None:
        """Refuse a run of somebody else's: its config names functions to import, so it is a program.

        Raises:
            ConfigError: the folder or its config belongs to neither this user nor root.
        """
        for path in (self.path, self.config):
            if path.exists() and (owner := path.stat().st_uid) not in (0, os.geteuid()):
                raise ConfigError(
                    f"run: {path} belongs to user {owner}, and evaluating it imports the reward functions that it "
                    "names. Allowed: a run of yours, or --trust."
                )

    # ---- writing ----

    def announce(self, total_steps: int, rewards: Iterable[str], first_step: int = 1) -> None:
        """Announce what will run, once at the start of a run and of each resumption (from ``first_step``).

        The writer's host and process id go along, by which a watcher can tell a dead run from a slow one.
        """
        announced: dict[str, Any] = {"total_steps": total_steps, "first_step": first_step, "rewards": list(rewards)}
        self.event(Phase.PLAN, host=socket.gethostname(), pid=os.getpid(), **announced)

    def event(self, phase: str, step: int | None = None, detail: str = "", **more: Any) -> None:
        """Record that ``phase`` (of ``Phase``) begins now."""
        jsonl.append(self.events_file, {"time": time.time(), "phase": phase, "step": step, "detail": detail, **more})

    def write_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one step's metrics, a flat mapping from metric name to number."""
        if taken := {"step", "time"} & metrics.keys():
            raise ValueError(f"metrics: {', '.join(sorted(taken))} can't be a metric's name, it is the line's own key")
        jsonl.append(self.metrics_file, {"step": step, "time": time.time(), **metrics})

    def rollouts_file(self, step: int) -> Path:
        return self.rollouts / f"{step}.jsonl"

    def tokens_file(self, step: int) -> Path:
        return self.tokens / f"{step}.jsonl.gz"

    def write_rollouts(
        self, step: int, rows: Iterable[Mapping[str, Any]], tokens: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Write all rollouts of one step, and the single tokens of some. A step that is run again after a resumption
        replaces its files; at no time are there tokens of others than the rollouts that are there.

        Args:
            tokens: records of ``RolloutTokens``.
        """
        self.rollouts.mkdir(exist_ok=True)
        self.tokens_file(step).unlink(missing_ok=True)
        jsonl.replace(self.rollouts_file(step), ({"step": step, **row} for row in rows))
        if tokens:
            self.tokens.mkdir(exist_ok=True)
            token_file.write(self.tokens_file(step), tokens)

    def write_validation(self, name: int | str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write all rollouts of one validation: of a step, or of what an evaluation calls by ``name``."""
        self.validation_rollouts.mkdir(exist_ok=True)
        jsonl.replace(self.validation_rollouts / f"{name}.jsonl", rows)

    def drop_validations(self, keep: int) -> None:
        """Remove the rollouts of validations between the first one and the newest ``keep``."""
        for step in self.validation_steps()[1:-keep]:
            (self.validation_rollouts / f"{step}.jsonl").unlink(missing_ok=True)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the only command that runs this run, until the process ends. Raises ConfigError if another one does."""
        with usable("run_dir", self.path):
            self._require_plain_files()
            file = open(self.path / "lock", "a+", encoding="utf-8")  # noqa: SIM115  (held until the end)
        with file:
            with usable("run_dir", self.path):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.seek(0)
                    raise ConfigError(
                        f"run_dir: {self.path} is being run by {file.read()}. Allowed: another."
                    ) from None
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
            yield

    def _require_plain_files(self) -> None:
        for file in (self.path / "lock", self.config, self.events_file, self.metrics_file):
            if os.path.lexists(file) and not file.is_file():
                raise ConfigError(f"run_dir: given {self.path}, whose {file.name} is no plain file. Allowed: another.")

    def wandb_run_id(self) -> str:
        """The same for every start of this run: chosen once, kept in the folder."""
        file = self.path / "wandb_run_id"
        if not file.exists():
            file.write_text(secrets.token_hex(4), encoding="utf-8")
        return file.read_text(encoding="utf-8")

    # ---- reading ----

    def events(self) -> list[Record]:
        return self.tail_events().poll()

    def metrics(self) -> list[Record]:
        """One record a step, by step. A step that was run again after a resumption counts once, as it ran last."""
        by_step = {record["step"]: record for record in self.tail_metrics().poll()}
        return [by_step[step] for step in sorted(by_step)]

    def metrics_until(self, step: int) -> Iterator[Record]:
        """The records of ``metrics`` up to ``step``, one after the other: a long run's don't fit into memory."""
        last = {record["step"]: place for place, record in enumerate(self._metrics_lines())}
        for place, record in enumerate(self._metrics_lines()):
            if record["step"] <= step and last[record["step"]] == place:
                yield record

    def _metrics_lines(self) -> Iterator[Record]:
        return jsonl.lines(self.metrics_file, required=("step", "time"))

    def tail_events(self) -> jsonl.Tail:
        return jsonl.Tail(self.events_file, required=("time", "phase"))

    def tail_metrics(self) -> jsonl.Tail:
        return jsonl.Tail(self.metrics_file, required=("step", "time"))

    def rollout_steps(self) -> list[int]:
        return _numbers(self.rollouts)

    def validation_steps(self) -> list[int]:
        return _numbers(self.validation_rollouts)

    def read_validation(self, name: int | str) -> list[Record]:
        return jsonl.read(self.validation_rollouts / f"{name}.jsonl", required=("uid", "sample", "rewards"))

    def read_rollouts(self, step: int) -> list[Record]:
        return jsonl.read(self.rollouts_file(step), required=("step", "uid", "sample", "rewards"))


def _numbers(folder: Path) -> list[int]:
    return sorted(int(file.stem) for file in folder.glob("*.jsonl") if file.stem.isdigit())
