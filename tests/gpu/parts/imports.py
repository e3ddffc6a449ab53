"""Every import that a run makes, all in one process: what is missing shows here, by name, before anything is started.

Where there is no GPU, but vLLM for GPUs, vLLM is told that its platform is CUDA: it then imports what it would there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pkgutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tests.gpu.part import Context

OF_ANY_RUN = (
    "matplotlib.pyplot",
    "ray.dashboard.modules",
    "tensordict",
    "transfer_queue",
    "transformers.models.qwen2.modeling_qwen2",
    "verl.trainer.ppo.v1.trainer_separate_async",
    "verl.trainer.ppo.v1.trainer_sync",
    "verl.workers.engine.fsdp.transformer_impl",
    "verl.workers.engine_workers",
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
    "verl.workers.rollout.vllm_rollout.utils",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "verl.workers.rollout.vllm_rollout.vllm_rollout",
    "vllm.compilation.backends",
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.llm",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.registry",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.sample.logits_processor",
    "vllm.v1.structured_output",
)
OF_A_GPU = (
    "torch._inductor.compile_fx",
    "triton",
    "vllm._C_stable_libtorch",
    "vllm._custom_ops",
    "vllm.cumem_allocator",
    "vllm.device_allocator.cumem",
    "vllm.distributed.device_communicators.cuda_communicator",
    "vllm.model_executor.layers.batch_invariant",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.v1.attention.backends.triton_attn",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.worker.gpu_worker",
)
OF_A_CPU = "mrpo.verl_seam.cpu."


def imports(context: Context) -> None:
    began = time.perf_counter()
    if context.on_gpu:
        import torch

        if not torch.cuda.is_available():
            _tell_vllm_that_it_is_on_a_gpu()
    else:
        os.environ.setdefault("VERL_PLATFORM", "cpu")  # as a run's processes have it
    failures = {}
    for name in (*OF_ANY_RUN, *(OF_A_GPU if context.on_gpu else ()), *_of_this_package(context.on_gpu)):
        try:
            importlib.import_module(name)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    if context.on_gpu:
        _servers_app()
    context.report.figure("s", time.perf_counter() - began)
    context.report.figure("modules", len(sys.modules))
    for name, trouble in failures.items():
        context.report.require(f"import {name}: {trouble}", False)
    used = sorted(distributions_of(sys.modules))
    context.report.figure("distributions", len(used))
    (context.out / "distributions.json").write_text(json.dumps(used))


def _of_this_package(on_gpu: bool) -> Iterator[str]:
    import mrpo

    for module in pkgutil.walk_packages(mrpo.__path__, "mrpo."):
        if not (on_gpu and module.name.startswith(OF_A_CPU)):
            yield module.name


def _tell_vllm_that_it_is_on_a_gpu() -> None:
    from vllm.platforms.interface import DeviceCapability

    platforms: Any = importlib.import_module("vllm.platforms")
    cuda: Any = importlib.import_module("vllm.platforms.cuda").NonNvmlCudaPlatform
    hopper = {"get_device_capability": classmethod(lambda cls, device_id=0: DeviceCapability(9, 0))}
    platforms._current_platform = type("Hopper", (cuda,), hopper)()


def _servers_app() -> None:
    """vLLM's server imports its routes as it makes them."""
    from vllm.entrypoints.openai.api_server import build_app
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "none"])
    build_app(arguments, supported_tasks=("generate",))


def distributions_of(modules: Iterable[str]) -> set[str]:
    """The installed distributions that the modules' top-level packages belong to, by their normalized names."""
    of_package = importlib.metadata.packages_distributions()
    packages = {name.partition(".")[0] for name in modules}
    found = {distribution for package in packages for distribution in of_package.get(package, ())}
    return {name.lower().replace("_", "-").replace(".", "-") for name in found}
