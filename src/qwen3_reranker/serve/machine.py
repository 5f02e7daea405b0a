"""Options and variables that depend on this machine: its cores and the memory of its GPUs."""

from __future__ import annotations

import math

from qwen3_reranker.embedded.engine_args import cpu_environment
from qwen3_reranker.embedded.nvidia import query_gpus
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.options import Option
from qwen3_reranker.serve.versions import parse

__all__ = ["gpu_memory", "machine_environment", "machine_flags"]


def machine_environment(launch: Launch) -> dict[str, str]:
    """Return a launch's environment variables, including those that depend on this machine."""
    if launch.devices or not ENGINES[launch.engine].is_vllm:
        return dict(launch.environment)
    return {**cpu_environment(), **launch.environment}


def machine_flags(launch: Launch) -> list[Option]:
    """
    Return the options that depend on this machine, which limit the GPU memory of the server.

    The server takes as much as the embedded engine would, which leaves room for other models.

    Args:
        launch: The server.

    Returns:
        The options; an empty list on a CPU, for an engine without such options, or if the size of
        the model or of the GPU's memory is not known.
    """
    if launch.memory is None:
        return []
    total = gpu_memory()
    if total is None:
        return []
    share = math.ceil(launch.memory.share(total) * 1000) / 1000
    flags: list[Option] = [(ENGINES[launch.engine].memory_option, f"{share:.3f}")]
    # It is not known which versions before 0.27 have this option.
    if parse(launch.version) >= (0, 27, 0):
        flags.append(("--kv-cache-memory-bytes", str(launch.memory.cache)))
    return flags


def gpu_memory() -> int | None:
    """Return the memory of this machine's smallest NVIDIA GPU in bytes; None without a GPU."""
    try:
        return min(int(line) for line in query_gpus("memory.total", units=False)) * 2**20
    except ValueError:
        return None
