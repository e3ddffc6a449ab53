"""Our RunConfig as verl's configuration. verl is not imported: its YAML is composed from where it lies.

Three layers, the later ones win: verl's own defaults; what follows from the RunConfig (and, on CPU, from what a CPU
lacks); the user's ``verl`` section, whose keys must be verl's.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from mrpo.config.base import as_yaml
from mrpo.config.controller import ControllerConfig, hand_over
from mrpo.config.data import LoraConfig
from mrpo.config.estimators import OffPolicy
from mrpo.config.policy_loss import require_policy_loss
from mrpo.config.replaced import REPLACED
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError, unknown_name
from mrpo.rewards.wire import SCORE

REQUIRE_KEY = {"middleware": "mrpo.verl_seam.require_key.RequireKey"}
"""Argument of vLLM's HTTP servers, whose own key guards some of their paths only."""
BUCKET_MEGABYTES = {"cpu": 512, "cuda": 2048}
"""Size of a weight update's parcels. A model's largest tensor, often its embedding, must fit in one."""


def to_verl(config: RunConfig, recipe_folder: Path, run_dir: Path, device: str) -> DictConfig:
    """verl's config for a run on ``device`` ("cpu" or "cuda"), with ours in it under ``mrpo``.

    Raises:
        ConfigError: ``verl`` holds a key that verl doesn't have.
    """
    layers: list[Any] = [_defaults(), derived(config, run_dir, device)]
    if device == "cpu":
        layers.append(_for_cpu(config))
    verl = OmegaConf.merge(*layers)
    assert isinstance(verl, DictConfig)
    before = {key: OmegaConf.select(verl, key) for key in REPLACED}
    merge_known(verl, config.verl, "verl")
    _refuse_what_we_replace(verl, before)
    require_policy_loss(verl)
    hand_over(verl, ControllerConfig(run=config, recipe_folder=recipe_folder, run_dir=run_dir))
    return verl


@cache
def _defaults() -> DictConfig:
    """verl's own config, read once: composing its fifty files takes most of a second. Not to be changed; merge it."""
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("verl is not installed; run `mrpo doctor`.")
    with initialize_config_dir(str(Path(spec.submodule_search_locations[0], "trainer", "config")), version_base=None):
        verl = compose("ppo_trainer")
    OmegaConf.set_struct(verl, False)
    return verl


def _refuse_what_we_replace(verl: DictConfig, ours: dict[str, Any]) -> None:
    """``ours`` holds the values before the user's: another one is refused, since nobody would read it."""
    for key, instead in REPLACED.items():
        given = OmegaConf.select(verl, key)
        if given != ours[key]:
            shown, allowed = (json.dumps(_plain(value), default=str) for value in (given, ours[key]))
            raise ConfigError(f"verl.{key}: given {shown}, allowed: {allowed}. {instead}")


def derived(config: RunConfig, run_dir: Path, device: str) -> dict[str, Any]:
    """What each section says in verl's words."""
    data, rollout, actor, trainer = config.data, config.rollout, config.actor, config.trainer
    separate = rollout.placement == "separate"
    strict = trainer.determinism == "strict"
    precision = {"float32": "fp32", "bfloat16": "bf16"}[config.model.dtype]
    mixed = {"param_dtype": precision, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    engine = {"strategy": "fsdp2", "dtype": config.model.dtype, "mixed_precision": mixed, "seed": config.seed}
    engine["full_determinism"] = strict and device == "cuda"  # whose kernels otherwise add up in any order
    return {
        "data": {
            "train_files": data.train_files,
            "val_files": data.val_files,
            "train_batch_size": data.train_batch_size,
            "val_batch_size": data.val_batch_size,
            "max_prompt_length": data.max_prompt_length,
            "max_response_length": data.max_response_length,
            "apply_chat_template_kwargs": data.apply_chat_template_kwargs,
            "filter_overlong_prompts": False,  # mrpo.data has done what data.overlong says
            "shuffle": data.shuffle,
            "seed": config.seed,
            "dataloader_num_workers": 0,
        },
        "actor_rollout_ref": {
            "hybrid_engine": not separate,
            "model": {
                "path": config.model.path,
                "enable_gradient_checkpointing": config.model.gradient_checkpointing,
                "trust_remote_code": config.model.trust_remote_code,
                **lora_settings(config.model.lora),
            },
            "actor": {
                "strategy": "fsdp2",
                "fsdp_config": engine,
                "ppo_mini_batch_size": config.mini_batch_size,
                "use_dynamic_bsz": True,
                "ppo_max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu,
                "ppo_epochs": actor.ppo_epochs,
                "data_loader_seed": config.seed,
                "clip_ratio": actor.clip_ratio_low,
                "clip_ratio_low": actor.clip_ratio_low,
                "clip_ratio_high": actor.clip_ratio_high,
                "entropy_coeff": actor.entropy_coeff,
                "use_kl_loss": actor.kl_loss_coef > 0,
                "kl_loss_coef": actor.kl_loss_coef,
                "loss_agg_mode": actor.loss_agg_mode,
                "grad_clip": actor.grad_clip,
                "optim": {
                    "lr": actor.learning_rate,
                    "lr_warmup_steps": actor.lr_warmup_steps,
                    "weight_decay": actor.weight_decay,
                    "clip_grad": actor.grad_clip,
                },
            },
            "ref": {
                "strategy": "fsdp2",
                "fsdp_config": engine,
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu,
            },
            "rollout": {
                "name": "vllm",
                "n": config.budget.trained_per_prompt,
                "seed": config.seed,
                "temperature": rollout.temperature,
                "top_p": rollout.top_p,
                "val_kwargs": {**rollout.val_kwargs.model_dump(), "do_sample": rollout.val_kwargs.temperature > 0},
                "dtype": rollout.dtype,
                "enforce_eager": rollout.enforce_eager,
                "gpu_memory_utilization": rollout.gpu_memory_utilization,
                "tensor_model_parallel_size": rollout.tensor_model_parallel_size,
                "max_model_len": data.max_prompt_length + data.max_response_length,
                "max_num_seqs": 1 if strict and device == "cpu" else rollout.max_num_seqs,
                "enable_prefix_caching": not strict,
                "max_num_batched_tokens": rollout.max_num_batched_tokens,
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu,
                "calculate_log_probs": True,
                "nnodes": rollout.nnodes if separate else 0,
                "n_gpus_per_node": rollout.replicas * rollout.tensor_model_parallel_size,
                "agent": {
                    "num_workers": rollout.agent_workers,
                    "default_agent_loop": rollout.agent.loop,
                    "agent_loop_manager_class": "mrpo.verl_seam.agent_loop.AgentLoops",
                },
                "multi_turn": {
                    "max_assistant_turns": rollout.agent.max_turns,
                    "max_parallel_calls": rollout.agent.max_parallel_calls,
                    "format": rollout.agent.format,
                },
                "engine_kwargs": {"vllm": REQUIRE_KEY},
                "checkpoint_engine": {
                    "backend": ("nccl" if device == "cuda" else "gloo") if separate else "naive",
                    "update_weights_bucket_megabytes": BUCKET_MEGABYTES[device],
                },
            },
        },
        "reward": {
            "num_workers": config.scoring.workers,
            "reward_manager": {
                "source": "importlib",
                "name": "MultiRewardManager",
                "module": {"path": "pkg://mrpo.verl_seam.reward_manager"},
            },
            "reward_model": {  # served by reward_models.py
                "rollout": {"name": "vllm", "free_cache_engine": False, "engine_kwargs": {"vllm": REQUIRE_KEY}}
            },
        },
        "algorithm": {
            "adv_estimator": "grpo",  # no critic; the advantages are ours
            "filter_groups": {
                "enable": config.budget.filter_groups is not None,
                "metric": _filter_metric(config.budget.filter_groups),
            },
            "rollout_correction": off_policy(config),
        },
        "trainer": {
            "device": device,
            "nnodes": trainer.nnodes,
            "n_gpus_per_node": trainer.n_gpus_per_node,
            "total_training_steps": trainer.total_training_steps,
            "total_epochs": 1_000_000,  # steps decide, not epochs
            "save_freq": -1,  # saving and going on are ours: mrpo.step.checkpointing
            "resume_mode": "disable",
            "default_local_dir": str(run_dir / "checkpoints"),
            "test_freq": trainer.test_freq,
            "val_before_train": trainer.val_before_train,
            "logger": trainer.logger,
            "project_name": trainer.project_name,
            "experiment_name": trainer.experiment_name or run_dir.name,
            "v1": {
                "trainer_mode": "separate_async" if separate else "sync",
                "separate_async": {
                    "parameter_sync_step": data.train_batch_size // config.mini_batch_size,
                    "num_warmup_batches": 0,
                },
                "sampler": {"max_off_policy_threshold": 1},
            },
        },
        "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": trainer.nnodes}}},
    }


def lora_settings(lora: LoraConfig | None) -> dict[str, Any]:
    """``model.lora`` as verl's settings of the model."""
    if lora is None:
        return {}
    of_verl = {"lora_rank": lora.rank, "lora_alpha": lora.alpha, "target_modules": lora.target_modules}
    return {**of_verl, "exclude_modules": lora.exclude_modules, "lora": {"merge": lora.merge}}


def off_policy(config: RunConfig) -> dict[str, Any]:
    """verl's ``rollout_correction``. Without weights and rejection it measures only."""
    given = config.algorithm.off_policy or OffPolicy(rollout_is="token" if config.rollout.ahead else "none")
    return {name: None if value == "none" else value for name, value in given.model_dump().items()}


def _filter_metric(name: str | None) -> str | None:
    """How verl knows a reward: by its name on the wire, or as the weighted sum of all, for what is no reward, too: the
    decision is ours."""
    return name and ("reward" if name in ("total", "advantage") else SCORE + name)


def _for_cpu(config: RunConfig) -> dict[str, Any]:
    """What a CPU lacks: flash attention and packed sequences, torch.compile without a compiler, vLLM's sleep mode."""
    engine = {"use_torch_compile": False}
    vllm = {
        "enforce_eager": True,
        "enable_sleep_mode": False,
        "engine_kwargs": {
            "vllm": {
                "worker_extension_cls": "mrpo.verl_seam.cpu.vllm_worker.CpuWorkerExtension",
                "distributed_executor_backend": "uni",
            }
        },
    }
    return {
        "reward": {"reward_model": {"rollout": vllm}},
        "actor_rollout_ref": {
            "model": {
                "use_remove_padding": False,
                "override_config": {"attn_implementation": "sdpa"},
                "external_lib": "mrpo.verl_seam.cpu.engine",
            },
            "actor": {"use_torch_compile": False, "fsdp_config": engine},
            "ref": {"use_torch_compile": False, "fsdp_config": engine},
            "rollout": {
                **vllm,
                "free_cache_engine": False,
                "checkpoint_engine": {"custom_backend_module": "mrpo.verl_seam.cpu.checkpoint_engine"},
            },
        },
    }


def merge_known(config: DictConfig, given: dict[str, Any], where: str) -> None:
    """Set ``given`` in ``config`` in place. verl reads some keys that its YAML doesn't list: they may be added only
    where verl leaves a section open (an empty mapping), or, like on its own command line, with a leading "+".

    Raises:
        ConfigError: a key isn't known there, or its value is of another kind than verl's.
    """
    for key, value in given.items():
        name, added = (key[1:], True) if key.startswith("+") else (key, False)
        if name not in config and not added and len(config):
            raise unknown_name(f"{where}.{name}", name, map(str, config.keys()))
        current = config.get(name)
        if isinstance(value, dict) and isinstance(current, DictConfig):
            merge_known(current, value, f"{where}.{name}")
            continue
        if not _same_kind(current, value):
            field = f"{where}.{name}"
            raise ConfigError(f"{field}: given {as_yaml(value):.200}, allowed: {_kind(current, field)}.")
        config[name] = value


def _same_kind(current: Any, given: Any) -> bool:
    """May ``given`` stand where verl has ``current``? A section is no value, nor is a text a number or a switch."""
    if current is None:
        return True
    if isinstance(current, DictConfig | ListConfig) or isinstance(given, dict):
        return isinstance(current, ListConfig) and not isinstance(given, dict)
    if isinstance(current, bool):
        return given is None or isinstance(given, bool)
    if isinstance(current, int | float):
        return given is None or (isinstance(given, int | float) and not isinstance(given, bool))
    return True


def _kind(current: Any, field: str) -> str:
    if isinstance(current, DictConfig):
        return f"settings of its own ({', '.join(map(str, current)) or 'any'}), as {field}.NAME=VALUE"
    if isinstance(current, bool):
        return "true or false"
    if isinstance(current, int | float):
        return "a number"
    return "a list" if isinstance(current, ListConfig) else "a text"


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
