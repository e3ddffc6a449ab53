"""The controller: verl's V1 trainers with several named rewards, and everything a run leaves.

A mixin in front of verl's own trainer classes. It plans each prompt's rollouts, computes advantages from all reward
components, and tells the run folder what happens. verl does the rest.
"""

from __future__ import annotations

from typing import Any

import torch
import transfer_queue as tq
from omegaconf import OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.replay_buffer import DAPO_FILTERED_REWARD_COUNTS_KEY, ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu

from mrpo.advantages import compute_advantages
from mrpo.config.load import validate
from mrpo.controller import advantage_step
from mrpo.controller.actor_worker import ActorWorker
from mrpo.controller.budget_step import RolloutBudget, prompt_uid
from mrpo.observe.metrics import rename
from mrpo.observe.run_folder import RunFolder
from mrpo.runtime.plugin import require_loaded

POLL_SECONDS = 0.05
"""verl looks for finished rollouts every 2 s, which is most of a small model's step. A look takes milliseconds."""

REFILL_LIMIT = 8
"""A step may ask for this many times its prompts before the run stops: verl refills failed and filtered groups for
ever."""

LEAST_CORRELATION, NOTABLE_DIFFERENCE = 0.5, 0.003
"""Engine against trainer, over tokens: below the first and above the second, they don't hold the same weights. Agreeing
ones correlate at 1.0 in float32 and above 0.99 in bfloat16; an engine that missed its weights at 0.0, with a mean
difference that a large vocabulary makes small."""


def require_agreement(metrics: dict) -> None:
    """Raises RuntimeError if this step's rollouts can't be from the policy that is about to learn from them."""
    correlation = metrics.get("training/rollout_actor_probs_pearson_corr", 1.0)
    difference = metrics.get("training/rollout_probs_diff_mean", 0.0)
    if not correlation >= LEAST_CORRELATION and difference > NOTABLE_DIFFERENCE:  # NaN: one side is constant
        raise RuntimeError(
            f"the rollout engine's token probabilities are not the trainer's (correlation {correlation:.2f}, mean "
            f"difference {difference:.4f}): the weights did not arrive"
        )


class MultiRewardTrainer(PPOTrainer):
    """What is ours in every placement. Owner of the number of prompts fetched; ``budget`` owns history and plans."""

    def __init__(self, config: Any):
        require_loaded()
        self.run_config = validate(OmegaConf.to_container(config.mrpo.run, resolve=True))  # type: ignore[arg-type]
        self.advantage_config = self.run_config.advantage
        self.folder = RunFolder(config.mrpo.run_dir)
        self.budget = RolloutBudget(
            self.run_config.budget, self.advantage_config, self.run_config.data.train_batch_size
        )
        self.prompts_fetched = 0
        self.submitted_in_step = 0
        self.observed_in_step: set[str] = set()
        self.step_rows: list[dict[str, Any]] = []
        self._note("start controller")
        super().__init__(config)

    def _note(self, phase: str) -> None:
        self.folder.event(phase, step=getattr(self, "global_steps", None))

    # ---- start ----

    def _build_replay_buffer(self) -> ReplayBuffer:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = POLL_SECONDS
        return buffer

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.Actor, Role.ActorRollout, Role.ActorRolloutRef, Role.RefPolicy):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ActorWorker.as_remote()

    def _setup(self) -> None:
        self._note("load model")
        super()._setup()

    def on_init_end(self) -> None:
        self._note("update_weights")
        super().on_init_end()

    def fit(self, agent_loop_manager: Any) -> None:
        self.folder.plan(self.total_training_steps, rewards=self.run_config.rewards, first_step=self.global_steps + 1)
        super().fit(agent_loop_manager)

    # ---- rollouts ----

    def _fetch_one_gen_batch(self) -> TensorDict:
        """Prompts with uids that say which prompt it is and which draw of it, the same in every run of a seed."""
        batch = super()._fetch_one_gen_batch()
        rows = zip(list(batch["raw_prompt"]), list(batch["reward_model"]), list(batch["data_source"]), strict=True)
        uids = [
            prompt_uid(list(messages), reward["ground_truth"], source, self.prompts_fetched + i)
            for i, (messages, reward, source) in enumerate(rows)
        ]
        self.prompts_fetched += len(uids)
        tu.assign_non_tensor_stack(batch, "uid", uids)
        return batch

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        """Decide each prompt's number of rollouts. Called again within a step when verl replaces failed prompts."""
        self.submitted_in_step += len(batch)
        prompts = self.run_config.data.train_batch_size
        if self.submitted_in_step > REFILL_LIMIT * prompts:
            raise RuntimeError(
                f"step {self.global_steps} asked for {self.submitted_in_step} prompts, more than {REFILL_LIMIT} times "
                f"its {prompts}: groups keep failing (see the rollout workers' logs) or being filtered out"
            )
        tags = (tq.kv_list("train") or {}).get("train", {})
        waiting = {key for key, tag in tags.items() if tag.get("is_prompt", False)}
        given_up = self.budget.planned.keys() - waiting - self.observed_in_step
        counts = self.budget.plan(list(map(str, batch["uid"])), given_up)
        batch["__rollout_n__"] = torch.from_numpy(counts)
        return super()._submit_batch_to_rollout(batch)

    # ---- the step ----

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        self.step_rows, self.submitted_in_step, self.observed_in_step = [], 0, set()
        self.budget.begin_step()
        self._note("rollout")
        return super().step(metrics, timing_raw)

    def _compute_reward_colocate(self, batch: KVBatchMeta, metrics: dict | None = None) -> KVBatchMeta:
        self._note("reward")
        return super()._compute_reward_colocate(batch, metrics)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self._note("old_log_prob")
        if self.parameter_sync_step == 1:  # the policy is the old policy: no copy of the model to keep and restore
            batch = PPOTrainer._compute_old_log_prob(self, batch, metrics)
        else:
            batch = super()._compute_old_log_prob(batch, metrics)
        require_agreement(metrics)
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """verl's own drops the components before this point, so all of it is ours."""
        self._note("advantage")
        names = self.advantage_config.names
        data = advantage_step.fetch(batch, names)
        metrics.update(advantage_step.correct_rollouts(batch, data, self.config))
        rows = advantage_step.rollouts_of(batch, data, names)
        advantage_step.require_scores(rows, names)
        result = compute_advantages(rows.rewards_NK, rows.group_ids_N, self.advantage_config, lengths_N=rows.lengths_N)
        advantages_N = result.advantages_N * self.budget.loss_weights(rows)
        if result.loss_weights_N is not None:
            advantages_N = advantages_N * result.loss_weights_N
        modulation = self.advantage_config.token_modulation
        batch = advantage_step.write(batch, data, rows, advantages_N, result.keep_N, modulation)
        self.step_rows += advantage_step.log_rows(rows, data, advantages_N, result.keep_N, names, self.tokenizer)
        metrics.update(advantage_step.reward_metrics(rows, names))
        metrics.update(result.diagnostics)
        metrics.update(self.budget.observe(rows, result.advantages_N, self.global_steps))
        self.observed_in_step |= rows.group_sizes.keys()
        metrics["rollout/padding_rows"] = int((rows.rollout_of_M < 0).sum())
        metrics["rollout/incomplete_groups"] = sum(
            size < self.budget.planned[uid] for uid, size in rows.group_sizes.items()
        )
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self._note("update_actor")
        return super()._update_actor(batch, metrics)

    def on_step_end(self) -> None:
        self._note("update_weights")
        super().on_step_end()

    def _save_checkpoint(self) -> None:
        self._note("save")
        super()._save_checkpoint()

    # ---- what it leaves ----

    def _validate(self, *args: Any, **kwargs: Any) -> dict:
        self._note("validate")
        return {f"validation/{name}": value for name, value in super()._validate(*args, **kwargs).items()}

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        """One namespace for every backend: verl's Tracking logs the same names that the run folder holds."""
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        filtered = metrics.pop(DAPO_FILTERED_REWARD_COUNTS_KEY, None)
        renamed = rename(metrics)
        self.folder.write_rollouts(self.global_steps, self.step_rows)
        self.folder.write_metrics(self.global_steps, renamed)
        metrics.clear()
        metrics.update(renamed)
        if filtered is not None:
            metrics[DAPO_FILTERED_REWARD_COUNTS_KEY] = filtered


class ColocatedTrainer(MultiRewardTrainer, PPOTrainerSync):
    """Engines and trainer ranks take turns on the same devices."""


class SeparateTrainer(MultiRewardTrainer, PPOTrainerSeparateAsync):
    """Engines in actors of their own. One weight update a step keeps every rollout on policy."""


TRAINERS = {"sync": ColocatedTrainer, "separate_async": SeparateTrainer}
"""By verl's mode names: verl decides persistence and replay semantics by them, so they must stay."""
