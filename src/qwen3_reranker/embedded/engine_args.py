"""
The arguments for vLLM's engine.

They are chosen for reranking: many short, prefill-only requests that share their first 100 tokens
or so. `Reranker(engine_args={...})` can replace each of them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import ORIGINAL
from qwen3_reranker.model.quantization import Quantization
from qwen3_reranker.redaction import Secret, conceal_token

__all__ = [
    "CPU_BLOCK",
    "CPU_VARIABLES",
    "MemoryNeeds",
    "cpu_environment",
    "engine_arguments",
    "engine_variables",
    "memory_needs",
    "one_token_more",
    "process_count",
    "step_tokens",
    "validate_engine_args",
]

# The number of tokens in a step on a GPU. Longer prompts are not split into several steps, which
# would help only if other requests were generating text at the same time.
_GPU_STEP = 8192
# The same on a CPU, whose caches can hold the activations of this many tokens. Larger steps were
# slower (`make bench-levers`).
_CPU_STEP = 2048

CPU_BLOCK = 32
"""
The block size of the KV cache on a CPU, in tokens; a multiple of 32.

vLLM's default of 128 is longer than the beginning that the prompts of a query share, so that it
would never be reused.
"""

# The arguments with which this package computes.
_SIZES = (
    "data_parallel_size",
    "max_model_len",
    "max_num_batched_tokens",
    "pipeline_parallel_size",
    "tensor_parallel_size",
)
_ACTIVATIONS = 2 * 2**30
_BINDING = "VLLM_CPU_OMP_THREADS_BIND"
CPU_VARIABLES = {
    # All cores. By default vLLM reserves one.
    _BINDING: "nobind",
    # The engine process runs the model itself ("uni"). To start another process for that would
    # double the start-up time.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # On a CPU, vLLM 0.32 cannot load what it saves this way ("no attribute
    # 'finalize_loading'"), so that it would compile again at every start. The older cache works.
    "VLLM_USE_AOT_COMPILE": "0",
}
"""The environment variables for vLLM on every CPU."""


def validate_engine_args(args: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Convert the user's engine arguments to what is sent to the engine process.

    Args:
        args: The arguments by name. None stands for no arguments, and an argument that is None for
            one that is left out.

    Returns:
        The arguments as JSON values, with the hub's access token wrapped in a `Secret`.

    Raises:
        InputError: An argument cannot be represented in JSON, or has a wrong type.
    """
    if not isinstance(args, Mapping | None):
        raise InputError(
            f"engine_args is a {type(args).__name__}: give a mapping of names to values, such as "
            "{'dtype': 'float32'}"
        )
    given = conceal_token(args or {})
    return {name: _validated(name, value) for name, value in given.items() if value is not None}


def _validated(name: str, value: Any) -> Any:
    """Return an argument as a JSON value, or a `Secret` as it is."""
    if isinstance(value, Secret):
        if not isinstance(value.reveal(), str | bool):
            kind = type(value.reveal()).__name__
            raise InputError(
                f"engine_args[{name!r}] is a {kind}: give a str, or True for the token that is "
                "logged in"
            )
        return value
    if name in _SIZES and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"engine_args has {name}={value!r}: give a whole number of at least 1")
    if name == "hf_overrides" and not isinstance(value, Mapping):
        raise InputError(f"engine_args[{name!r}] is a {type(value).__name__}: give a mapping")
    try:
        return json.loads(json.dumps(value, default=os.fspath))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"engine_args[{name!r}] is a {type(value).__name__}, which cannot be sent to the "
            "engine process: give a value that JSON can represent, such as 'float32' for a dtype"
        ) from error


def engine_arguments(
    checkpoint: Checkpoint,
    max_length: int,
    user: Mapping[str, Any],
    *,
    device_memory: int | None,
    can_compile: bool,
) -> dict[str, Any]:
    """
    Return the keyword arguments for vLLM's EngineArgs.

    Args:
        checkpoint: The model.
        max_length: The maximum number of tokens in a prompt.
        user: The user's arguments. `hf_overrides` are merged, the others replace those chosen.
        device_memory: The memory of one GPU in bytes. None on a CPU.
        can_compile: Whether the engine can compile the model, which on a CPU takes a compiler.

    Raises:
        InputError: `user` has a `max_model_len` that is too low for `max_length`, see
            `one_token_more`.
    """
    least = max_length + 1 if _in_several_steps(user) else max_length
    if user.get("max_model_len", least) < least:
        raise InputError(
            f"engine_args has max_model_len={user['max_model_len']}, but prompts of "
            f"max_length={max_length} tokens need {least}: leave max_model_len out, or lower "
            "max_length"
        )
    args: dict[str, Any] = {
        "model": checkpoint.model,
        "runner": "pooling",
        "max_model_len": max_length,
        "max_num_batched_tokens": step_tokens(max_length, cpu=device_memory is None),
        "enable_prefix_caching": True,
        # vLLM's spans contain its statistics, and without them its engine would fail.
        "disable_log_stats": user.get("otlp_traces_endpoint") is None,
        "use_tqdm_on_load": False,
    }
    if device_memory is None:
        args |= {"block_size": CPU_BLOCK, "enforce_eager": not can_compile}
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
    Return the arguments that raise vLLM's limit to one token above the longest prompt.

    In every step except a prompt's first, vLLM 0.27 reserves a token for an answer. A prompt of
    exactly `max_model_len` tokens that takes several steps would therefore never finish.

    Args:
        checkpoint: The model.
        args: The arguments that `engine_arguments()` returned.
        user: The user's arguments.

    Returns:
        The arguments to change; none if the user has set the limit, or has disabled the
        computation of a prompt in several steps.
    """
    if "max_model_len" in user or not _in_several_steps(user):
        return {}
    length = args["max_model_len"] + 1
    positions = {"max_position_embeddings": max(length, checkpoint.limit)}
    return {"max_model_len": length, "hf_overrides": positions | args["hf_overrides"]}


def _in_several_steps(user: Mapping[str, Any]) -> bool:
    """Return whether vLLM may compute a prompt in several steps."""
    return user.get("enable_chunked_prefill") is not False


def step_tokens(max_length: int, *, cpu: bool) -> int:
    """
    Return the maximum number of tokens that the engine computes in one step.

    Args:
        max_length: The maximum number of tokens in a prompt.
        cpu: Whether the engine runs on a CPU.
    """
    return _CPU_STEP if cpu else max(max_length, _GPU_STEP)


def process_count(args: Mapping[str, Any]) -> int:
    """Return the number of processes in which vLLM runs the model."""
    sizes = [args.get(f"{kind}_parallel_size", 1) for kind in ("tensor", "pipeline")]
    return int(math.prod(sizes))


def engine_variables(*, cpu: bool, core_sets: Sequence[Sequence[int]] = ()) -> dict[str, str]:
    """
    Return the environment variables to set for an engine, except those that the user has set.

    Args:
        cpu: Whether the engine runs on a CPU.
        core_sets: The cores of each of vLLM's processes, which have precedence over variables that
            the user has set. Empty for all cores.
    """
    wanted = cpu_environment() if cpu else {}
    variables = {name: value for name, value in wanted.items() if name not in os.environ}
    if core_sets:
        variables["OMP_NUM_THREADS"] = str(len(core_sets[0]))
        # The process of a single set is bound to it as a whole.
        lists = [",".join(map(str, cores)) for cores in core_sets]
        variables[_BINDING] = "|".join(lists) if len(lists) > 1 else CPU_VARIABLES[_BINDING]
    return variables


def cpu_environment() -> dict[str, str]:
    """Return the environment variables that make vLLM use all cores of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"OMP_NUM_THREADS": str(cores), **CPU_VARIABLES}


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """
    The memory that a model needs on each device, in bytes.

    Attributes:
        weights: For the weights, including the output matrix.
        cache: For the KV cache of the prompts that are computed at the same time.
        activations: For everything else (an estimate).
    """

    weights: int
    cache: int
    activations: int = _ACTIVATIONS

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return self.weights + self.cache + self.activations

    def share(self, device_memory: int) -> float:
        """Return the total as a fraction of a device's memory, at most 0.92, vLLM's default."""
        return min(0.92, self.total / device_memory)


def memory_needs(checkpoint: Checkpoint, args: Mapping[str, Any]) -> MemoryNeeds:
    """
    Return the memory that a model needs.

    A document leaves the cache as soon as it is scored. So the cache holds the tokens of one step,
    those of the next step, and one prompt of the maximum length. vLLM's default of 92 % of a GPU
    would leave nothing for the LLM that writes the user's answers.

    Args:
        checkpoint: The model.
        args: Engine arguments with `max_model_len` and `max_num_batched_tokens`, and optionally
            `dtype` and `tensor_parallel_size`.
    """
    config = checkpoint.config
    width = 4 if args.get("dtype") in ("float32", "float") else 2
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    ranks = args.get("tensor_parallel_size", 1)
    per_token = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * width
    tokens = args["max_model_len"] + 2 * args["max_num_batched_tokens"]
    return MemoryNeeds(_weights(config, head, width) // ranks, per_token * tokens // ranks)


def _memory(
    checkpoint: Checkpoint, args: Mapping[str, Any], device_memory: int | None
) -> dict[str, Any]:
    """Return the arguments for memory, or none if the user has given one of them."""
    sizing = ("kv_cache_memory_bytes", "gpu_memory_utilization", "num_gpu_blocks_override")
    if any(args.get(name) is not None for name in sizing):
        return {}
    needs = memory_needs(checkpoint, args)
    if device_memory is None:
        return {"kv_cache_memory_bytes": needs.cache}
    share = needs.share(device_memory)
    return {"kv_cache_memory_bytes": needs.cache, "gpu_memory_utilization": share}


def _weights(config: Mapping[str, Any], head: int, width: int) -> int:
    """Return the size of a model's weights in bytes; unquantized ones take `width` bytes each."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    attention = 2 * (config["num_attention_heads"] + config["num_key_value_heads"]) * head
    # An output matrix that is not tied to the embeddings is loaded, too, to build the score head.
    embeddings = config["vocab_size"] * (1 if config.get("tie_word_embeddings") else 2)
    per_layer = hidden * (attention + 3 * config["intermediate_size"])
    quantization = Quantization.of(config)
    bits = None if quantization is None else quantization.bits
    linear = width if bits is None else bits / 8
    return int(embeddings * hidden * width + layers * per_layer * linear)
