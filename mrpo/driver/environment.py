"""What every process of a run has in its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from mrpo.config.run import RunConfig
from mrpo.record import repeated
from mrpo.record.run_folder import RunFolder

LOG_BYTES = 8 << 20
"""A process's output goes on in a new file then, and the one before the last is dropped."""


def environment(config: RunConfig, device: str, folder: RunFolder) -> dict[str, str]:
    """Environment of every process of a run; what the user has set stays."""
    values = {
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DISABLE_COMPILE_CACHE": "1",  # a stale cache broke runs: github.com/vllm-project/vllm/issues/31199
        "NCCL_DEBUG": "WARN",
        "TRANSFER_QUEUE_ENABLE": "1",
        "TQ_NUM_THREADS": str(min(8, psutil.cpu_count(logical=False) or 8)),  # it warns of more at each request
        repeated.ENV: "1",
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "HYDRA_FULL_ERROR": "1",
        "TENSORBOARD_DIR": str(folder.path.resolve() / "tensorboard"),
        "WANDB_DIR": str(folder.path.resolve()),
    }
    if config.trainer.determinism == "strict" and device == "cuda":
        values["VLLM_BATCH_INVARIANT"] = "1"
    model = Path(config.model.path).expanduser()
    if model.exists() or model.is_absolute():  # the recipe's prepare script may still be making it
        values["HF_HUB_OFFLINE"] = "1"
    if "wandb" in config.trainer.logger:
        values |= {"WANDB_RUN_ID": folder.wandb_run_id(), "WANDB_RESUME": "allow"}
        if not os.environ.get("WANDB_API_KEY"):
            values["WANDB_MODE"] = "offline"
    if device == "cpu":
        cores = len(os.sched_getaffinity(0))
        engines = config.rollout.replicas if config.rollout.placement == "separate" else config.ranks
        values |= {
            "VERL_PLATFORM": "cpu",
            "TORCHDYNAMO_DISABLE": "1",  # needs a C compiler, and compiles longer than a small model runs
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(max(1, cores // config.ranks)),
            "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads of one process starve the others of a shared core
            "MRPO_ROLLOUT_THREADS": str(config.rollout.cpu_threads or max(1, cores // engines)),
        }
    return {name: os.environ.get(name, value) for name, value in values.items()}


@contextmanager
def in_effect(variables: Mapping[str, str]) -> Iterator[None]:
    """They are this process's while this is entered: the next run of the same command may have others."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
