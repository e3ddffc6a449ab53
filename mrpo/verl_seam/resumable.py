"""A verl trainer that can be stopped at any moment and goes on exactly where it was.

A mixin in front of verl's trainer. The end of a step is the one moment that checkpoints stand for; it comes when
everything of the step is done and written, which in verl's loop is just before the next one begins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from mrpo.checkpoint.owners import Owners
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.run import RunConfig
from mrpo.record.metrics import rename
from mrpo.record.run_folder import STOPPED, STUCK, RunFolder
from mrpo.step.checkpointing import CONTROLLER, TRAINER, RunCheckpoints, StopRequested
from mrpo.step.watchdog import GAVE_UP, Watchdog, dump_stacks, located


class Position:
    """Where the run is in its data: the owner of how many prompts were fetched, for the loader that hands them out."""

    def __init__(self, trainer: PPOTrainer):
        self.trainer = trainer
        self.prompts_fetched = 0

    def state_dict(self) -> dict[str, Any]:
        return {"prompts_fetched": self.prompts_fetched, "loader": self.trainer.train_dataloader.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.prompts_fetched = state["prompts_fetched"]
        self.trainer.train_dataloader.load_state_dict(state["loader"])


class OwedValidation:
    """The metrics of a step whose validation was abandoned for a stop; it is made up for when the run goes on."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics = state["metrics"]


class ResumableTrainer(PPOTrainer):
    """Saves at the ends of steps and when asked to stop, and begins where ``config.mrpo.attempt`` says.

    ``owners`` holds everything of the controller that must survive; a subclass registers its own before ``init``.
    """

    def __init__(self, config: Any, run: RunConfig):
        attempt: Any = OmegaConf.to_container(config.mrpo.attempt)
        self.run_config = run
        self.folder = RunFolder(config.mrpo.run_dir)
        self.start_step: int = attempt["start_step"]
        self.start_folder: str | None = attempt["folder"]
        self.position, self.owed = Position(self), OwedValidation()
        self.owners = Owners()
        self.owners.register("position", self.position)
        self.owners.register("owed_validation", self.owed)
        self.checkpoints = RunCheckpoints(
            run.checkpoint,
            CheckpointStore(run.checkpoint.folder or self.folder.checkpoints, self.folder.scratch),
            self.owners,
            identity=attempt["identity"],
            attempt=attempt["number"],
            start=self.start_step,
        )
        self.step_metrics: dict[str, float] = {}
        """What the last step that is over has logged."""
        self.validation_abandoned = False
        self.phase, self.unfinished = "", 0
        self.watchdog = Watchdog(run.watchdog, self.waits_for, self._tell_standstill, self._give_up)
        self.watchdog.start()
        self.note("start controller")
        super().__init__(config)

    def note(self, phase: str) -> None:
        self.phase = phase
        self.watchdog.moved()
        self.folder.event(phase, step=getattr(self, "global_steps", None))

    # ---- standing still ----

    def waits_for(self) -> str:
        """The phase, and who would have to end it."""
        if self.phase in ("rollout", "validate"):
            buffer = self.replay_buffer
            unfinished = [*list(buffer.pending_keys.values()), *list(buffer.running_keys.values())]
            waiting = sorted(uid for uids in unfinished for uid in list(uids))  # the main thread may be changing them
            return (
                f"{self.phase}, {len(waiting)} prompts without an end: {', '.join(waiting[:4])}; "
                f"engines: {located(self._engines())}; "
                f"reward workers: {located(self.reward_loop_manager.reward_loop_workers)}"
            )
        ranks = getattr(self, "actor_rollout_wg", None)
        return f"{self.phase}" + (f", trainer ranks: {located(ranks.workers)}" if ranks else "")

    def _engines(self) -> list[Any]:
        managers = (getattr(self, name, None) for name in ("standalone_checkpoint_manager", "checkpoint_manager"))
        return [server for manager in managers if manager for replica in manager.replicas for server in replica.servers]

    def _tell_standstill(self, what: str) -> None:
        self.folder.event("standstill", step=getattr(self, "global_steps", None), detail=what)

    def _give_up(self, what: str) -> None:
        self.folder.event(STUCK, step=getattr(self, "global_steps", None), detail=what)
        dump_stacks()
        os._exit(GAVE_UP)

    # ---- beginning ----

    def _load_checkpoint(self) -> None:
        self.global_steps = self.start_step
        if self.start_folder is None:
            return
        self.note("load checkpoint")
        if any(self.actor_rollout_wg.load_state(str(Path(self.start_folder) / TRAINER))):
            self.note("reshard to another number of ranks")
        self.owners.load(Path(self.start_folder) / CONTROLLER)

    def fit(self, agent_loop_manager: Any) -> None:
        try:
            super().fit(agent_loop_manager)
            if self.config.trainer.val_only:
                return
            self._end_of_step()
            self.checkpoints.settle(self.actor_rollout_wg, wait=True)
        except StopRequested:
            saved = self._save() if self.checkpoints.has_boundary else self.start_step
            self.folder.event(STOPPED, step=saved, detail=f"{saved} of {self.total_training_steps} steps are saved")

    def on_train_begin(self) -> None:
        super().on_train_begin()
        if self.owed.metrics is None:
            return
        metrics, self.owed.metrics = self.owed.metrics, None
        self.global_steps -= 1  # verl counts the next step already
        self.on_validate_begin()
        metrics |= rename(self._validate())
        self.on_validate_end()
        self._write_metrics(metrics)
        self.logger.log(data=metrics, step=self.global_steps)
        self.global_steps += 1

    # ---- the end of a step ----

    def on_step_begin(self) -> None:
        self._end_of_step()
        super().on_step_begin()

    def _end_of_step(self) -> None:
        step = self.global_steps - 1
        self.checkpoints.settle(self.actor_rollout_wg)
        self.checkpoints.remember(step, self.step_metrics)
        if self.checkpoints.is_due(step, self.total_training_steps):
            self._save(self.run_config.checkpoint.asynchronous)
        if step < self.total_training_steps:
            self._stop_if_asked()

    def _save(self, asynchronous: bool = False) -> int:
        self.folder.event("save", step=self.checkpoints.boundary_step)
        return self.checkpoints.save(self.actor_rollout_wg, asynchronous)

    def _write_metrics(self, metrics: dict[str, float]) -> None:
        """Write what the step logs; if its validation was abandoned, these are the metrics that it is owed to."""
        self.step_metrics = dict(metrics)
        if self.validation_abandoned:
            self.owed.metrics, self.validation_abandoned = dict(metrics), False
        self.folder.write_metrics(self.global_steps, metrics)

    # ---- stopping ----

    def _stop_if_asked(self) -> None:
        if self.folder.stop_file.exists():
            raise StopRequested

    def while_waiting(self, partition_id: str) -> None:
        """Called again and again while rollouts are waited for, of the partition "train" or "val"."""
        self._stop_if_asked()
        buffer = self.replay_buffer
        unfinished = len(buffer.pending_keys[partition_id]) + len(buffer.running_keys[partition_id])
        if unfinished != self.unfinished:
            self.unfinished = unfinished
            self.watchdog.moved()

    def _build_replay_buffer(self) -> ReplayBuffer:
        """verl waits for rollouts here, in training and in validation."""
        buffer = super()._build_replay_buffer()
        wait = buffer._wait_for_next_poll

        def wait_or_stop(partition_id: str, last_debug_time: float) -> float:
            self.while_waiting(partition_id)
            return wait(partition_id, last_debug_time)

        buffer._wait_for_next_poll = wait_or_stop  # type: ignore[method-assign]
        return buffer

    def _validate(self, *args: Any, **kwargs: Any) -> dict:
        """Empty if it was abandoned: the step is over all the same, and owes its validation."""
        self.note("validate")
        try:
            return super()._validate(*args, **kwargs)
        except StopRequested:
            if not self.checkpoints.has_boundary:
                raise
            self.validation_abandoned = True
            return {}
