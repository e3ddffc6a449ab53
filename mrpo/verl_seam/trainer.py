"""verl's trainers with our ranks. The loop is ours (``mrpo.step``): of verl's, ``fit`` and ``step`` are not called."""

from __future__ import annotations

from typing import Any

from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from mrpo.verl_seam.actor_worker import ActorWorker


class WithOurRanks(PPOTrainer):
    """A mixin in front of verl's class: its trainer ranks are ``ActorWorker``."""

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.Actor, Role.ActorRollout, Role.ActorRolloutRef, Role.RefPolicy):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ActorWorker.as_remote()


class ColocatedTrainer(WithOurRanks, PPOTrainerSync):
    """Engines and trainer ranks take turns on the same devices."""


class SeparateTrainer(WithOurRanks, PPOTrainerSeparateAsync):
    """Engines in actors of their own. One weight update a step keeps every rollout on-policy."""


TRAINERS: dict[str, Any] = {"sync": ColocatedTrainer, "separate_async": SeparateTrainer}
"""By verl's mode names: verl decides persistence and replay semantics by them, so they must stay."""
