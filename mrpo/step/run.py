"""A run, step after step: begins where it was, saves at the ends of steps and when asked to stop, watches for stalls.

The end of a step is the one moment that checkpoints stand for: everything of the step is done and written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from mrpo.checkpoint.owners import Owners
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.controller import ControllerConfig, Weights
from mrpo.record.alarms import Alarms
from mrpo.record.metrics import rename
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.record.writer import BackgroundWriter
from mrpo.step import ahead
from mrpo.step.agreement import SteadyAgreement
from mrpo.step.budget import RolloutBudget
from mrpo.step.checkpointing import AHEAD_FOLDER, OWNERS_FOLDER, RANKS_FOLDER, RunCheckpoints, StopRequested
from mrpo.step.outcome import truncated_share
from mrpo.step.parts import Parts, Step
from mrpo.step.position import Position
from mrpo.step.sampling import resubmit
from mrpo.step.seam import Metrics, Seam
from mrpo.step.step import run_step
from mrpo.step.validation import validation_records, with_gaps
from mrpo.step.watchdog import GAVE_UP, Watchdog


class DeferredValidation:
    """The metrics of a step whose validation was abandoned for a stop. It is done when the run goes on."""

    def __init__(self) -> None:
        self.metrics: Metrics | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics = state["metrics"]


class TrainingRun:
    """One attempt at a run. It exists before the seam does, so that starting up is watched as well.

    Args:
        config: what the command handed over.
        dump_stacks: writes the stacks of the run's processes to their logs, before the run gives up.
        errors: the last errors that the run's processes have written, for a run that stands still.
    """

    def __init__(self, config: ControllerConfig, dump_stacks: Callable[[], None], errors: Callable[[], list[str]]):
        self.config, self.attempt = config.run, config.attempt
        self.folder = RunFolder(config.run_dir)
        self.dump_stacks, self.errors = dump_stacks, errors
        self.writer = BackgroundWriter()
        self.owners = Owners()
        self.checkpoints = RunCheckpoints(
            self.config.checkpoint,
            CheckpointStore(self.config.checkpoint.folder or self.folder.checkpoints, self.folder.scratch),
            self.owners,
            identity=self.attempt.identity,
            attempt=self.attempt.number,
            start=self.attempt.start_step,
            save_ahead=self._save_ahead,
        )
        self.under_way: dict[int, Step] = {}
        self.ahead: dict[int, ahead.Remembered] = {}
        """What was under way when the last step ended."""
        self.deferred = DeferredValidation()
        self.validation_abandoned = False
        self.seam: Seam | None = None
        self.step: int | None = None
        self.phase, self.unfinished = "", 0
        self.partly_updated = False
        """Whether the ranks hold weights of no step's end: a mini-batch was trained on, and others follow."""
        self.watchdog = Watchdog(self.config.watchdog, self.waits_for, self._report_stall, self._give_up)
        self.watchdog.start()
        self.note(Phase.START_CONTROLLER)

    def note(self, phase: Phase) -> None:
        """``phase`` begins."""
        self.phase = phase
        self.partly_updated = phase == Phase.UPDATE_ACTOR or (self.partly_updated and phase != Phase.UPDATE_WEIGHTS)
        self.watchdog.moved()
        self.folder.event(phase, step=self.step)

    # ---- the run ----

    def train(self, seam: Seam) -> None:
        """All steps, or until somebody asks to stop; then what is done is saved, and the last event is STOPPED."""
        run, start, total = self._begin(seam), self.attempt.start_step, seam.total_steps
        self.folder.announce(total, rewards=self.config.rewards, first_step=start + 1)
        try:
            with self.writer:
                self._train(seam, run, start, total)
        except StopRequested:
            saved = self._save(seam) if self.checkpoints.has_boundary else start
            self.folder.event(Phase.STOPPED, step=saved, detail=f"{saved} of {total} steps are saved")
        finally:
            seam.end()

    def _train(self, seam: Seam, run: Parts, start: int, total: int) -> None:
        if self.attempt.validate_first:
            seam.log(self.validate(start), start)
        self._make_up_validation(seam)
        self._end_step(seam, start, {})
        for number in range(start + 1, total + 1):
            self.step = number
            self._end_step(seam, number, run_step(number, run))
        self.checkpoints.settle(seam.ranks, wait=True)

    def evaluate(self, seam: Seam) -> None:
        """Validate what ``attempt.evaluate`` names, each as a line of metrics and a file of rollouts; or some of it, if
        somebody asks to stop, and then the last event is STOPPED."""
        self.seam, step = seam, self.attempt.start_step
        seam.while_waiting = self.while_waiting
        numbers = [weights.number for weights in self.attempt.evaluate]
        self.folder.announce(max(numbers), rewards=self.config.rewards, first_step=min(numbers))
        done = 0
        try:
            for weights in self.attempt.evaluate:
                self.step = weights.number
                self._stop_if_asked()
                if done > 0:
                    seam.pause()
                self._load(seam, weights)
                self.note(Phase.UPDATE_WEIGHTS)
                seam.serve(step)
                metrics = self._validate(seam, step, weights.name) | self._reward_means(weights.name)
                self.folder.write_metrics(weights.number, metrics)
                seam.log(metrics, weights.number)
                done += 1
        except StopRequested:
            self.folder.event(Phase.STOPPED, detail=f"{done} of {len(self.attempt.evaluate)} are evaluated")
        finally:
            seam.end()

    def _reward_means(self, name: str) -> Metrics:
        """What a display shows of a step: each reward's mean over the responses that have it."""
        rows, means = self.folder.read_validation(name), Metrics()
        for reward in self.config.rewards:
            scores = [row["rewards"][reward] for row in rows if row["rewards"][reward] is not None]
            means |= {f"reward/{reward}/mean": fmean(scores)} if scores else {}
        return means

    def _load(self, seam: Seam, weights: Weights) -> None:
        self.note(Phase.LOAD_MODEL if weights.checkpoint is None else Phase.LOAD_CHECKPOINT)
        ranks = None if weights.checkpoint is None else Path(weights.checkpoint) / RANKS_FOLDER
        if seam.load(ranks, self.attempt.start_step):
            self.note(Phase.RESHARD)
        if weights.model is not None:
            seam.load_model(weights.model)

    def _begin(self, seam: Seam) -> Parts:
        """Register what must survive, and take up the checkpoint that this attempt begins with."""
        self.seam, self.step = seam, self.attempt.start_step
        seam.while_waiting = self.while_waiting
        config, position = self.config, Position(seam)
        budget = RolloutBudget(config.budget, config.advantage, config.data.train_batch_size, config.advantage_at)
        # These names are files in checkpoints: the last is what it was once called, so that older runs go on.
        for name, owner in (("budget", budget), ("position", position), ("owed_validation", self.deferred)):
            self.owners.register(name, owner)
        folder = None if self.attempt.folder is None else Path(self.attempt.folder)
        if folder is not None:
            self.note(Phase.LOAD_CHECKPOINT)
        if seam.load(None if folder is None else folder / RANKS_FOLDER, self.step):
            self.note(Phase.RESHARD)
        if folder is not None:
            self.owners.load(folder / OWNERS_FOLDER)
        self.note(Phase.UPDATE_WEIGHTS)
        seam.serve(self.step)
        if folder is not None:
            self.under_way = ahead.load(folder / AHEAD_FOLDER, seam)
        beside = self.folder, self.note, self.validate, self._metrics_between_steps, self.writer
        alarms = Alarms.after(self.folder.metrics_until(self.attempt.start_step), config.observe.alarms)
        run = Parts(config, seam, budget, position, *beside, SteadyAgreement(config), alarms, self.under_way)
        resubmit(run)
        return run

    def _save_ahead(self, folder: Path) -> None:
        assert self.seam is not None
        ahead.save(folder, self.ahead, self.seam)

    def _metrics_between_steps(self) -> Metrics:
        return {"checkpoint/blocked_seconds": self.checkpoints.take_blocked_seconds()}

    def _end_step(self, seam: Seam, step: int, metrics: Metrics) -> None:
        """``step`` is over. Save it if it is due, and stop here if that was asked for."""
        if self.validation_abandoned:
            self.deferred.metrics, self.validation_abandoned = dict(metrics), False
        self.checkpoints.settle(seam.ranks)
        self.ahead = ahead.remember(step, self.under_way, seam.mini_batches)
        self.checkpoints.remember(step, metrics)
        if self.checkpoints.is_due(step, seam.total_steps):
            self._save(seam, self.config.checkpoint.asynchronous)
        if step < seam.total_steps:
            self._stop_if_asked()

    def _save(self, seam: Seam, asynchronous: bool = False) -> int:
        self.writer.settle()  # a checkpoint stands for a step that has left everything
        self.folder.event(Phase.SAVE, step=self.checkpoints.boundary_step)
        return self.checkpoints.save(seam.ranks, asynchronous)

    # ---- validation ----

    def validate(self, step: int) -> Metrics:
        """The metrics of the validation set; none if it was abandoned for a stop, and then the step is over all the
        same and its validation deferred."""
        assert self.seam is not None
        try:
            return self._validate(self.seam, step, step)
        except StopRequested:
            if not self.checkpoints.has_boundary:  # before the first step there is no step to defer it for
                raise
            self.validation_abandoned = True
            return {}

    def _validate(self, seam: Seam, step: int, name: int | str) -> Metrics:
        self.note(Phase.VALIDATE)
        metrics, rows = seam.validate(step)
        records = validation_records(rows, self.config.advantage.names)
        self.folder.write_validation(name, records)
        if self.config.observe.validations is not None:
            self.folder.drop_validations(keep=self.config.observe.validations)
        metrics = with_gaps(metrics, records, self.config.weights, self.config.rollout.val_kwargs.n)
        metrics |= truncated_share(row.truncated for row in rows)
        return {f"validation/{name}": value for name, value in metrics.items()}

    def _make_up_validation(self, seam: Seam) -> None:
        if self.deferred.metrics is None:
            return
        metrics, self.deferred.metrics = self.deferred.metrics, None
        metrics |= rename(self.validate(self.attempt.start_step))
        self.folder.write_metrics(self.attempt.start_step, metrics)
        seam.log(metrics, self.attempt.start_step)

    # ---- while it waits ----

    def while_waiting(self, unfinished: int) -> None:
        """Called again and again while rollouts are waited for, with the number of prompts without an end."""
        if not self.partly_updated:  # what the ranks hold must be what the last step's end saves
            self._stop_if_asked()
        if unfinished != self.unfinished:
            self.unfinished = unfinished
            self.watchdog.moved()

    def _stop_if_asked(self) -> None:
        if self.folder.stop_file.exists():
            raise StopRequested

    def waits_for(self) -> str:
        what = self.phase if self.seam is None else self.seam.waits_for(self.phase)
        return "; ".join((what, *(f"last error of {error}" for error in self.errors())))

    def _report_stall(self, what: str) -> None:
        self.folder.event(Phase.STALLED, step=self.step, detail=what)

    def _give_up(self, what: str) -> None:
        self.folder.event(Phase.STUCK, step=self.step, detail=what)
        self.dump_stacks()
        os._exit(GAVE_UP)  # whatever it waits for keeps the main thread from ending it
