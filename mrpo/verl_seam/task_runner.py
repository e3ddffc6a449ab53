"""verl's task runner with our trainers: the actor in which the controller lives."""

from __future__ import annotations

from omegaconf import DictConfig
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
from verl.utils.config import validate_config

from mrpo.verl_seam import node_roles
from mrpo.verl_seam.plugin import require_loaded
from mrpo.verl_seam.recovery import RestartedRewardWorkers
from mrpo.verl_seam.trainer import TRAINERS


class TaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):  # type: ignore[name-defined]
    """verl looks the trainer class up by mode in this process, so this is where ours take their places."""

    def run(self, config: DictConfig) -> None:
        require_loaded()
        validate_config(config, need_reference_policy(config), need_critic(config))
        node_roles.apply()
        node_roles.store_with_trainers(config)
        TRAINER_REGISTRY.update(TRAINERS)
        trainer_base.RewardLoopManager = RestartedRewardWorkers  # type: ignore[misc]
        super().run(config)
