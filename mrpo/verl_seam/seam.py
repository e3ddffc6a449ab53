"""The stack under a step, on verl 0.9.1: ``mrpo.step.seam``'s verbs, and the verl methods that each of them uses.

================== ========================================================== =============================
verb               verl's public                                              verl's private
================== ========================================================== =============================
(start)            ``PPOTrainer()``, ``Tracking``, ``SkipManager.init``,      ``_setup``
                   ``ValidationGenerationsLogger``
load, load_model,  (methods of our own worker, ``actor_worker``)
ranks
pause              ``checkpoint_manager.sleep_replicas``
serve              ``on_init_end``
loader_state       ``train_dataloader``
timed_step, timed  ``on_step_begin``, ``SkipManager.set_step``,               ``_start_profiling``
                   ``marked_timer``
next_prompts,      ``index_select_tensor_dict``                               ``_next_train_batch``
select
unfinished_prompts ``tq.kv_list``
submit             ``assign_non_tensor_stack``, ``generate_sequences``
wait               ``replay_buffer.sample``, ``on_sample_begin``,             ``_compute_reward_colocate``
                   ``on_sample_end``
tend               (``buffer``)                                               ``_evict_terminal_groups``
store, restore     TransferQueue's, in ``saved_rows``
spread                                                                        ``_balance_batch``
old_log_probs      (methods of our own worker, in ``rank_calls``)             ``_compute_old_log_prob``
read, texts, write TransferQueue's, in ``rows``, ``token_rows``,
tokens             ``token_records``
update_actor                                                                  ``_update_actor``
update_weights     ``on_step_end``                                            ``_stop_profiling``,
                                                                              ``_consume_sync_metrics``
scored             (methods of our own worker, in ``recovery``)
combine            ``MetricsAggregator``
finish             ``tq.kv_clear``, (``step_metrics``)                        ``_get_n_gpus_for_throughput``,
                                                                              ``_log_rollout_data``
log                ``Tracking.log``, ``DapoFilteredRewardTableLogger``
validate           ``on_validate_begin``, ``on_validate_end``,                ``_validate``
                   ``replay_buffer.sample``
end                                                                           ``_shutdown_dump_executor``
================== ========================================================== =============================

These are calls. What is overridden or wrapped is listed by ``python -m mrpo.verl_seam.upgrade``, which also compares
all of it with another version of verl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import DAPO_FILTERED_REWARD_COUNTS_KEY
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.utils import MetricsAggregator
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer
from verl.utils.skip import SkipManager
from verl.utils.tracking import DapoFilteredRewardTableLogger, Tracking, ValidationGenerationsLogger

from mrpo.config.advantage import TokenModulation
from mrpo.config.controller import ControllerConfig
from mrpo.errors import ConfigError
from mrpo.record.busy import Interval
from mrpo.record.phase import Phase
from mrpo.record.token_file import RolloutTokens
from mrpo.step.outcome import tool_metrics
from mrpo.step.rollouts import BatchRow, Rollouts
from mrpo.step.seam import Batch, Commit, Metrics, PromptContent, Prompts, RolloutText, ValidationRow
from mrpo.verl_seam import engine_server, rows, saved_rows, token_rows
from mrpo.verl_seam.buffer import StepBuffer, pilots_of, sleep
from mrpo.verl_seam.engine_client import BatchedClient, PersistentClient
from mrpo.verl_seam.group_filter import GroupFilter
from mrpo.verl_seam.rank_calls import leave_log_probs, leave_reference, old_policy, sent_to_ranks
from mrpo.verl_seam.recovery import EngineKeeper
from mrpo.verl_seam.reward_models import RewardModels
from mrpo.verl_seam.rows import VerlBatch
from mrpo.verl_seam.scoring import take_busy
from mrpo.verl_seam.stacks import located, without_end
from mrpo.verl_seam.step_metrics import step_metrics
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.token_records import read_tokens
from mrpo.verl_seam.trackers import begin_at
from mrpo.verl_seam.trainer import TRAINERS
from mrpo.verl_seam.validation import renamed


class VerlSeam:
    """Owner of verl's trainer, from its start to its end.

    Args:
        config: verl's, resolved.
        ours: what the command handed over.
        note: called with each phase of the start.
        event: called with what happens beside the phases of a step: the phase, and the details.
    """

    def __init__(
        self,
        config: DictConfig,
        ours: ControllerConfig,
        note: Callable[[Phase], None],
        event: Callable[[str, str], None],
    ):
        self.config, self.ours = config, ours
        self.timings: dict[str, float] = {}
        self.version = 0
        """The step whose weights the ranks have."""
        self.filtered_counts: dict[Any, int] | None = None
        self.has_logged = False
        self.while_waiting: Callable[[int], None] = lambda unfinished: None
        rewards = ours.run.rewards
        if any(reward.model for reward in rewards.values()):
            note(Phase.LOAD_REWARD_MODELS)
        # Ray ends the engines of reward models that nobody holds
        self.reward_models = RewardModels(rewards, config.reward.reward_model.rollout)
        config.mrpo.reward_model_urls = self.reward_models.urls
        note(Phase.LOAD_MODEL)
        engine_server.register()
        self.trainer: Any = TRAINERS[config.trainer.v1.trainer_mode](config)
        self.trainer._setup()
        self.decoder = ResponseDecoder.of_model(self.trainer.tokenizer, ours.run.model.path)
        self.total_steps: int = self.trainer.total_training_steps
        self.mini_batches: int = self.trainer.parameter_sync_step
        self.ranks = self.trainer.actor_rollout_wg
        strict = ours.run.trainer.determinism == "strict"
        self.buffer = StepBuffer(self.trainer.replay_buffer, self.mini_batches, strict, self._look)
        self.group_filter: GroupFilter | None = None
        if (what := ours.run.budget.filter_groups) is not None:
            now = lambda: ours.run.advantage_at(self.buffer.step)  # noqa: E731
            self.group_filter = GroupFilter(self.buffer.buffer, what, now)
        self.validated: list[ValidationRow] = []
        self._keep_validated()
        self.engines: EngineKeeper | None = None
        if config.trainer.v1.trainer_mode == "separate_async":  # colocated engines live and die with the ranks
            servers, weights = self.trainer.standalone_server_manager, self.trainer.standalone_checkpoint_manager
            self.engines = EngineKeeper(servers, weights, event)
            ray.kill(self.trainer.llm_server_manager.global_load_balancer)  # of engines on the ranks: there are none
        of_groups = [name for name, reward in rewards.items() if reward.scope == "group"]
        if of_groups and self.trainer.reward_loop_manager.reward_loop_worker_handles is None:
            raise ConfigError(
                f"rewards.{of_groups[0]}.scope: given group, while verl's own reward model shares the trainer's "
                "devices (verl.reward), so that rollouts are scored one by one when all are there. Allowed: "
                "rewards.NAME.model."
            )
        ray.get([worker.__ray_ready__.remote() for worker in self._reward_workers()])

    def _look(self, partition: str, unfinished: int) -> None:
        """While rollouts are waited for: has anybody asked for a stop, is an engine dead?"""
        self.while_waiting(unfinished)
        if self.engines is None:
            return
        serving = self.trainer.global_steps - (partition == rows.PARTITION)
        # Rollouts under way are of the weights before the update, which the ranks no longer have.
        self.engines.look(self.version, only_the_last=self.version != serving)

    def _keep_validated(self) -> None:
        """verl's validation takes its rollouts from the buffer, a batch at a time, and drops them when it has their
        metrics: keep what a run folder records."""
        sample = self.buffer.buffer.sample

        def sample_and_keep(global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, Metrics]:
            meta, metrics = sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
            if partition_id == rows.VALIDATION:
                meta.reorder(rows.data_order(meta))
                self.validated += rows.validation_rows(meta, self.ours.run.advantage.names, self.decoder)
            return meta, metrics

        self.buffer.buffer.sample = sample_and_keep

    def _reward_workers(self) -> list[Any]:
        return self.trainer.reward_loop_manager.reward_loop_workers

    def llm_client(self) -> Any:
        """For the agent loops. Where engines have actors of their own, it survives the death of one."""
        if self.engines is not None:
            return self.trainer.standalone_server_manager.get_client(client_cls=PersistentClient)
        return self.trainer.llm_server_manager.get_client(client_cls=BatchedClient)

    def track(self, agent_loops: Any) -> None:
        """Take ``agent_loops`` for all that follows, and open the tracking backends."""
        config, trainer = self.config, self.trainer
        names = {"project_name": config.trainer.project_name, "experiment_name": config.trainer.experiment_name}
        resolved = OmegaConf.to_container(config, resolve=True)
        SkipManager.init(config)
        trainer.agent_loop_manager = agent_loops
        self.buffer.wait_for_end = getattr(agent_loops, "wait_for_end", sleep)  # another manager than ours may be named
        if self.ours.run.budget.has_pilot:
            self.buffer.pilots = pilots_of(agent_loops, self.ours.run.budget.method)
        trainer.logger = Tracking(default_backend=config.trainer.logger, config=resolved, **names)
        trainer.validation_generations_logger = ValidationGenerationsLogger(**names)
        self.filtered_logger = DapoFilteredRewardTableLogger(**names)

    # ---- around steps ----

    def load(self, folder: Path | None, step: int) -> bool:
        self.trainer.global_steps = self.version = step
        return folder is not None and any(self.ranks.load_state(str(folder)))

    def load_model(self, model: str) -> None:
        self.ranks.load_model(model)

    def pause(self) -> None:
        if self.engines is None:
            self.trainer.checkpoint_manager.sleep_replicas()

    def serve(self, step: int) -> None:
        trainer, profiled = self.trainer, self.config.global_profiler.steps
        trainer.on_init_end()
        trainer.prev_step_profile = trainer.next_step_profile = False
        trainer.curr_step_profile = profiled is not None and step + 1 in profiled

    def loader_state(self) -> dict[str, Any]:
        return self.trainer.train_dataloader.state_dict()

    def load_loader_state(self, state: dict[str, Any]) -> None:
        self.trainer.train_dataloader.load_state_dict(state)
        self.trainer.train_dataloader_it = None  # which would go on from where it was

    @contextmanager
    def timed_step(self, step: int, timings: dict[str, float]) -> Iterator[None]:
        self.timings = self.trainer.timing_raw = timings
        self.trainer.global_steps = step
        self.trainer.local_trigger_step = 0
        SkipManager.set_step(step)
        with self.timed("step"):
            self.trainer.on_step_begin()
            self.trainer._start_profiling()
            yield

    def timed(self, part: str) -> AbstractContextManager[None]:
        return marked_timer(part, self.timings)

    def end(self) -> None:
        self.trainer._shutdown_dump_executor()

    # ---- a step, in its order ----

    def next_prompts(self, count: int) -> Prompts:
        batch = self.trainer._next_train_batch(count)
        columns = list(batch["raw_prompt"]), list(batch["reward_model"]), list(batch["data_source"])
        contents = [
            PromptContent(list(messages), reward["ground_truth"], source)
            for messages, reward, source in zip(*columns, strict=True)
        ]
        return Prompts(contents, batch)

    def select(self, prompts: Prompts, chosen: Sequence[int]) -> Prompts:
        handle = tu.index_select_tensor_dict(prompts.handle, list(chosen))
        return Prompts([prompts.contents_G[i] for i in chosen], handle)

    def unfinished_prompts(self) -> set[str]:
        tags = (tq.kv_list(rows.PARTITION) or {}).get(rows.PARTITION, {})
        return {key for key, tag in tags.items() if tag.get("is_prompt", False)}

    def submit(self, prompts: Prompts, uids_G: Sequence[str], n_G: Sequence[int], step: int) -> None:
        batch = prompts.handle
        tu.assign_non_tensor_stack(batch, "uid", list(uids_G))
        tu.assign_non_tensor_data(batch, "global_steps", step)  # part of the sampling seeds
        batch["__rollout_n__"] = torch.tensor(n_G, dtype=torch.int64)
        tag = {"is_prompt": True, "status": "pending", "global_steps": step}
        tq.kv_batch_put(keys=list(uids_G), partition_id=rows.PARTITION, tags=[tag] * len(uids_G))
        self.trainer.agent_loop_manager.generate_sequences(batch)

    def wait(self, step: int, prompts: int, refill: Callable[[int], None], commit: Commit | None) -> VerlBatch:
        trainer = self.trainer
        with self.timed("gen"):
            trainer.on_sample_begin()
            meta, metrics = self.buffer.sample(step, prompts, refill, commit)
            trainer.on_sample_end()
        metrics |= self.group_filter.take_metrics() if self.group_filter is not None else {}
        if trainer.reward_loop_manager.reward_loop_worker_handles is None:
            with self.timed("reward"):
                meta = trainer._compute_reward_colocate(meta, metrics=metrics)
        return VerlBatch(meta, metrics)

    def tend(self, step: int, refill: Callable[[int], None], commit: Commit | None) -> int:
        return self.buffer.tend(step, refill, commit)

    def store(self, batch: Batch, file: Path) -> None:
        saved_rows.store(batch.handle, batch.metrics, file)

    def restore(self, file: Path) -> VerlBatch:
        return VerlBatch(*saved_rows.restore(file))

    def spread(self, batch: Batch) -> None:
        batch.handle = self.trainer._balance_batch(batch.handle, metrics=batch.metrics)
        batch.handle.extra_info |= {"temperature": self.config.actor_rollout_ref.rollout.temperature}

    def old_log_probs(self, batch: Batch) -> Metrics:
        assert isinstance(batch, VerlBatch)
        trainer, metrics = self.trainer, Metrics()
        with self.timed("old_log_prob"):
            if (self.config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False):
                PPOTrainer._compute_old_log_prob(trainer, batch.handle, metrics)  # the engine's are the old ones
                batch.handle.fields = None
            else:
                # with one mini-batch the policy is the old policy: no copy of the model to keep and restore
                several = self.mini_batches > 1
                with old_policy(self.ranks, trainer.local_trigger_step) if several else nullcontext():
                    leave_log_probs(self.ranks, batch, token_rows.weight_threshold(self.config))
                metrics |= token_rows.policy_metrics(batch, self.config.actor_rollout_ref.actor)
        if trainer.use_reference_policy:
            with self.timed("ref"):
                leave_reference(trainer, self.ranks, batch.handle)
        return metrics

    def read(self, batch: Batch) -> tuple[list[BatchRow], Metrics]:
        assert isinstance(batch, VerlBatch)
        names = self.ours.run.advantage.names
        batch.columns = rows.fetch_scored(batch.handle, names)
        metrics = token_rows.correct_rollouts(batch, self.config)
        token_rows.count_tokens(batch)
        metrics |= tool_metrics(rows.tool_calls(batch))
        return rows.batch_rows(batch.handle, batch.columns, batch.tokens_M, names), metrics

    def texts(self, batch: Batch, rows_of_texts: Sequence[int]) -> Callable[[], list[RolloutText]]:
        assert isinstance(batch, VerlBatch)
        return rows.texts(batch, rows_of_texts, self.decoder)

    def write(
        self,
        batch: Batch,
        rollouts: Rollouts,
        advantages_N: torch.Tensor,
        keep_N: torch.Tensor,
        modulation: TokenModulation | None,
    ) -> None:
        assert isinstance(batch, VerlBatch)
        token_rows.write(batch, rollouts, advantages_N, keep_N, modulation)

    def tokens(self, batch: Batch, rows_of_tokens: Sequence[int]) -> Callable[[], list[RolloutTokens]]:
        assert isinstance(batch, VerlBatch)
        return read_tokens(batch, rows_of_tokens, self.decoder)

    def update_actor(self, batch: Batch) -> Metrics:
        metrics = Metrics()
        with self.timed("update_actor"):
            self.trainer._update_actor(sent_to_ranks(batch.handle), metrics)
        self.version = self.trainer.global_steps
        self.trainer.local_trigger_step += 1  # by it verl knows that the old policy is to be restored first
        return metrics

    def update_weights(self) -> Metrics:
        self.trainer._stop_profiling()
        if self.engines is not None:
            self.engines.drop_dead()  # one that died with nothing to do would fail the weight update
            self.engines.look(self.trainer.global_steps, at_once=True)
        self.trainer.on_step_end()
        return self.trainer._consume_sync_metrics()

    def scored(self) -> list[list[Interval]]:
        return take_busy(self._reward_workers())

    def combine(self, parts: Sequence[tuple[Metrics, int]]) -> Metrics:
        aggregator = MetricsAggregator()
        for metrics, rollouts in parts:
            aggregator.add_step_metrics(metrics, sample_count=rollouts)
        return aggregator.get_aggregated_metrics()

    def finish(self, batches: Sequence[Batch], metrics: Metrics) -> Metrics:
        trainer, step, ours = self.trainer, self.trainer.global_steps, [b for b in batches if isinstance(b, VerlBatch)]
        keys, tags = [key for b in ours for key in b.handle.keys], [tag for b in ours for tag in b.handle.tags]
        whole = KVBatchMeta(partition_id=rows.PARTITION, keys=keys, tags=tags)
        metrics |= step_metrics(ours, self.timings, step, trainer._get_n_gpus_for_throughput())
        metrics["training/epoch"] = (step - 1) // max(1, trainer.steps_per_epoch)
        if folder := self.config.trainer.get("rollout_data_dir", None):
            trainer._log_rollout_data(whole, self.timings, folder)
        tq.kv_clear(keys=keys, partition_id=rows.PARTITION)
        self.filtered_counts = metrics.pop(DAPO_FILTERED_REWARD_COUNTS_KEY, None)
        return metrics

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if not self.has_logged:
            begin_at(self.trainer.logger, step)
            self.has_logged = True
        self.trainer.logger.log(data=dict(metrics), step=step)
        if self.filtered_counts:
            self.filtered_logger.log(self.config.trainer.logger, self.filtered_counts, step)
            self.filtered_counts = None

    # ---- beside steps ----

    def validate(self, step: int) -> tuple[Metrics, list[ValidationRow]]:
        self.trainer.global_steps, self.validated = step, []
        self.trainer.on_validate_begin()
        metrics = self.trainer._validate()
        self.trainer.on_validate_end()
        return renamed(metrics), self.validated

    def waits_for(self, phase: str) -> str:
        if phase not in (Phase.ROLLOUT, Phase.VALIDATE):
            return f"{phase}, trainer ranks: {located(self.ranks.workers)}"
        weights = self.engines.weights if self.engines is not None else self.trainer.checkpoint_manager
        engines = [server for replica in weights.replicas for server in replica.servers]
        return f"{phase}, {without_end(self.buffer.unfinished, engines, self._reward_workers())}"
