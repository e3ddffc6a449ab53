"""The controller: verl's V1 trainers with several named rewards, and everything a run leaves.

A mixin in front of verl's own trainer classes. It plans each prompt's rollouts, computes advantages from all reward
components, and tells the run folder what happens. verl does the rest.
"""

from __future__ import annotations

from typing import Any

import ray
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
from verl.workers.rollout.llm_server import LLMServerClient

from mrpo.advantages import compute_advantages
from mrpo.config.load import validate
from mrpo.record.metrics import rename
from mrpo.step.budget import RolloutBudget, prompt_uid
from mrpo.step.rollouts import RolloutRows, RowKey
from mrpo.verl_seam import rows as advantage_step
from mrpo.verl_seam.actor_worker import ActorWorker
from mrpo.verl_seam.plugin import require_loaded
from mrpo.verl_seam.recovery import EngineKeeper, PersistentClient
from mrpo.verl_seam.resumable import ResumableTrainer
from mrpo.verl_seam.reward_models import RewardModels

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


class MultiRewardTrainer(ResumableTrainer):
    """What is ours in every placement. ``budget`` owns the prompts' history and the step's plan."""

    def __init__(self, config: Any):
        require_loaded()
        run = validate(OmegaConf.to_container(config.mrpo.run, resolve=True))  # type: ignore[arg-type]
        self.advantage_config = run.advantage
        self.budget = RolloutBudget(run.budget, self.advantage_config, run.data.train_batch_size)
        self.submitted_in_step = 0
        self.observed_in_step: set[str] = set()
        self.step_rows: list[dict[str, Any]] = []
        super().__init__(config, run)
        self.owners.register("budget", self.budget)

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
        if any(reward.model for reward in self.run_config.rewards.values()):
            self.note("load reward models")
        self.reward_models = RewardModels(self.run_config.rewards, self.config.reward.reward_model.rollout)
        self.config.mrpo.reward_model_urls = self.reward_models.urls
        self.note("load model")
        super()._setup()
        ray.get([worker.__ray_ready__.remote() for worker in self.reward_loop_manager.reward_loop_workers])

    def on_init_end(self) -> None:
        self.note("update_weights")
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
            prompt_uid(list(messages), reward["ground_truth"], source, self.position.prompts_fetched + i)
            for i, (messages, reward, source) in enumerate(rows)
        ]
        self.position.prompts_fetched += len(uids)
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
        self.note("rollout")
        return super().step(metrics, timing_raw)

    def _compute_reward_colocate(self, batch: KVBatchMeta, metrics: dict | None = None) -> KVBatchMeta:
        self.note("reward")
        return super()._compute_reward_colocate(batch, metrics)

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, *args: Any, **kwargs: Any) -> KVBatchMeta:
        """In the order of their keys rows make the same micro-batches, and so the same sums, whoever finished first."""
        order = sorted(range(len(batch.keys)), key=lambda i: RowKey.parse(batch.keys[i]))
        batch.keys, batch.tags = [batch.keys[i] for i in order], [batch.tags[i] for i in order]
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self.note("old_log_prob")
        if self.parameter_sync_step == 1:  # the policy is the old policy: no copy of the model to keep and restore
            batch = PPOTrainer._compute_old_log_prob(self, batch, metrics)
        else:
            batch = super()._compute_old_log_prob(batch, metrics)
        require_agreement(metrics)
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """verl's own drops the components before this point, so all of it is ours."""
        self.note("advantage")
        names = self.advantage_config.names
        data = advantage_step.fetch(batch, names)
        metrics.update(advantage_step.correct_rollouts(batch, data, self.config))
        rows = advantage_step.rollouts_of(batch, data, names)
        self._require_scores(rows, data)
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

    def _require_scores(self, rows: RolloutRows, data: TensorDict) -> None:
        """Raises RuntimeError if a reward failed too often; what it failed on is in the run folder then."""
        names = self.advantage_config.names
        trouble = advantage_step.too_many_failures(rows, names, self.run_config.scoring.most_failures)
        if trouble is None:
            return
        nothing_N = torch.zeros(len(rows.keys))
        records = advantage_step.log_rows(rows, data, nothing_N, nothing_N, names, self.tokenizer)
        self.folder.write_rollouts(self.global_steps, records)
        raise RuntimeError(f"{trouble}. All of them: {self.folder.rollouts_file(self.global_steps)}")

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        self.note("update_actor")
        return super()._update_actor(batch, metrics)

    def on_step_end(self) -> None:
        self.note("update_weights")
        super().on_step_end()

    # ---- what it leaves ----

    def _validate(self, *args: Any, **kwargs: Any) -> dict:
        values = {f"validation/{name}": value for name, value in super()._validate(*args, **kwargs).items()}
        if self.config.trainer.val_only:
            self.folder.write_metrics(self.global_steps, values)
        return values

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        """One namespace for every backend: verl's Tracking logs the same names that the run folder holds."""
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        filtered = metrics.pop(DAPO_FILTERED_REWARD_COUNTS_KEY, None)
        renamed = rename(metrics)
        self.folder.write_rollouts(self.global_steps, self.step_rows)
        renamed["checkpoint/blocked_seconds"] = self.checkpoints.take_blocked_seconds()
        self._write_metrics(renamed)
        metrics.clear()
        metrics.update(renamed)
        if filtered is not None:
            metrics[DAPO_FILTERED_REWARD_COUNTS_KEY] = filtered


class ColocatedTrainer(MultiRewardTrainer, PPOTrainerSync):
    """Engines and trainer ranks take turns on the same devices."""


class SeparateTrainer(MultiRewardTrainer, PPOTrainerSeparateAsync):
    """Engines in actors of their own. One weight update a step keeps every rollout on policy."""

    def _setup(self) -> None:
        super()._setup()
        self.engines = EngineKeeper(
            self.standalone_server_manager,
            self.standalone_checkpoint_manager,
            lambda phase, detail: self.folder.event(phase, detail=detail),
        )

    def get_llm_client(self) -> LLMServerClient:
        return self.standalone_server_manager.get_client(client_cls=PersistentClient)

    def on_step_end(self) -> None:
        self.engines.drop_dead()  # one that died with nothing to do would fail the weight update
        self.engines.look(self.global_steps, at_once=True)
        super().on_step_end()

    def while_waiting(self, partition_id: str) -> None:
        super().while_waiting(partition_id)
        self.engines.look(self.global_steps - (partition_id == "train"))


TRAINERS = {"sync": ColocatedTrainer, "separate_async": SeparateTrainer}
"""By verl's mode names: verl decides persistence and replay semantics by them, so they must stay."""
