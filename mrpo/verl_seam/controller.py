"""The controller's process: assembles the stack and runs the training on it. Started by ``mrpo.driver``."""

from __future__ import annotations

from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.trainer.ppo.v1 import trainer_base
from verl.utils.config import validate_config
from verl.utils.import_utils import load_class_from_fqn
from verl.utils.logging_utils import configure_verl_logging

from mrpo.config.controller import received
from mrpo.step.run import TrainingRun
from mrpo.verl_seam import node_roles
from mrpo.verl_seam.plugin import require_loaded
from mrpo.verl_seam.recovery import RestartedRewardWorkers
from mrpo.verl_seam.seam import VerlSeam
from mrpo.verl_seam.stacks import dump_stacks, errors_in_logs


def run_controller(config: DictConfig) -> None:
    """Train, or validate, to the end that the run folder's last event tells."""
    require_loaded()
    configure_verl_logging()
    validate_config(config, need_reference_policy(config), need_critic(config))
    node_roles.apply()
    node_roles.store_with_trainers(config)
    trainer_base.RewardLoopManager = RestartedRewardWorkers  # type: ignore[misc]
    config.transfer_queue.enable = True
    OmegaConf.resolve(config)
    ours = received(config)
    tq.init(config.transfer_queue)
    seam, succeeded = None, False
    try:
        run = TrainingRun(ours, dump_stacks, lambda: errors_in_logs(run.folder.logs))
        seam = VerlSeam(config, ours, run.note, lambda what, detail: run.folder.event(what, detail=detail))
        seam.track(agent_loops(config, seam))
        (run.evaluate if ours.attempt.evaluate else run.train)(seam)
        succeeded = True
    finally:
        try:
            if (tracking := getattr(seam and seam.trainer, "logger", None)) is not None:
                tracking.finish(exit_code=0 if succeeded else 1)
        finally:
            tq.close()


def agent_loops(config: DictConfig, seam: VerlSeam) -> Any:
    """The manager of the agent loops that the config names: ours (``agent_loop``), if nobody has set another."""
    manager: Any = load_class_from_fqn(
        config.actor_rollout_ref.rollout.agent.agent_loop_manager_class, "AgentLoopManager"
    )
    return manager.create(
        config=config,
        llm_client=seam.llm_client(),
        teacher_client=seam.trainer.get_teacher_client(),
        reward_loop_worker_handles=seam.trainer.get_reward_handles(),
    )
