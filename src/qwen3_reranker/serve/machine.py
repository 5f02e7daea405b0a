"""What this machine adds to a launch when the server runs here: its cores, its GPUs' memory."""

from __future__ import annotations

import math
import shutil
import subprocess

from qwen3_reranker.embedded.engine_args import cpu_environment
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.options import Option
from qwen3_reranker.serve.versions import parse

__all__ = ["gpu_memory", "machine_environment", "machine_flags"]

_QUERY = ["--query-gpu=memory.total", "--format=csv,noheader,nounits"]


def machine_environment(launch: Launch) -> dict[str, str]:
    """Return the environment variables of a launch, with those that depend on this machine."""
    if launch.devices or launch.engine == "sglang":
        return dict(launch.environment)
    return {**cpu_environment(), **launch.environment}


def machine_flags(launch: Launch) -> list[Option]:
    """
    Return the flags that depend on this machine: how much of a GPU's memory the server takes.

    As much as the embedded engine takes, so that the GPU has room for other models too. Nothing
    where the model's size or the GPU's memory is not known, or the server has a CPU.
    """
    if launch.memory is None:
        return []
    total = gpu_memory()
    if total is None:
        return []
    share = math.ceil(launch.memory.share(total) * 1000) / 1000
    flags: list[Option] = [("--gpu-memory-utilization", f"{share:.3f}")]
    # It is not known from which version before on there is this flag.
    if parse(launch.version) >= (0, 27, 0):
        flags.append(("--kv-cache-memory-bytes", str(launch.memory.cache)))
    return flags


def gpu_memory() -> int | None:
    """Return the bytes of this machine's smallest NVIDIA GPU; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, check=True, timeout=30
        )
        return min(int(line) for line in done.stdout.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
