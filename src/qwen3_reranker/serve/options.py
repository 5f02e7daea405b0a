"""
The command-line options of each engine's server, by version.

Read in the source of vLLM 0.9.2 to 0.33.0, vLLM-Ascend 0.11.0 to 0.26.0 and SGLang 0.4.10 to
0.5.23, and run with vLLM 0.32.0 and SGLang 0.5.23 (tests/servers/test_serve.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from qwen3_reranker.embedded.engine_args import (
    CPU_BLOCK,
    MemoryNeeds,
    memory_needs,
    step_tokens,
)
from qwen3_reranker.errors import CheckpointError, UnsupportedVersionError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.head import misread_head
from qwen3_reranker.model.layout import ORIGINAL
from qwen3_reranker.model.quantization import Quantization
from qwen3_reranker.problems import PROBLEMS
from qwen3_reranker.serve.engines import Engine

__all__ = ["DType", "Device", "Kind", "Option", "Options", "Request", "Template", "options"]

Device = Literal["cpu", "gpu"]
"""Where an engine computes; "gpu" stands for every accelerator."""

DType = Literal["auto", "bfloat16", "float16", "float32"]
"""The precision that an engine computes the weights in; "auto" is the checkpoint's own."""

Kind = Literal["causal", "one-label", "two-label"]
"""What a checkpoint is: an original, or converted to one label or to two."""

Template = Literal["server", "client"]
"""Who writes the prompt of clients that send text."""

Option = tuple[str, ...]
"""A flag, with its value if it takes one."""


@dataclass(frozen=True)
class Request:
    """
    The input of `options`: an engine, a checkpoint and the settings of the user.

    Attributes:
        engine: The engine.
        version: The engine's version. vLLM-Ascend's versions follow vLLM's.
        kind: The kind of checkpoint.
        max_length: The maximum number of tokens in a prompt.
        positions: The maximum number of tokens that the model accepts
            (`max_position_embeddings`).
        dtype: The dtype that the weights are computed in; "auto" for the checkpoint's own.
        tensor_parallel: The number of devices that one copy of the model is split over.
        data_parallel: The number of copies of the model.
        cpu: Whether there is no accelerator.
        template: Who writes the prompt of clients that send text.
        checkpoint: The checkpoint; None if its files cannot be read here.
    """

    engine: Engine
    version: tuple[int, int, int]
    kind: Kind
    max_length: int
    positions: int
    dtype: DType = "auto"
    tensor_parallel: int = 1
    data_parallel: int = 1
    cpu: bool = False
    template: Template = "server"
    checkpoint: Checkpoint | None = None


@dataclass
class Options:
    """
    The options for a `Request`.

    Attributes:
        flags: The options, in the order in which they are written.
        template: The file name of the score template; "" for none.
        memory: The memory that the model needs on each GPU; None on a CPU, or if it is not known.
        notes: What the options are for.
        warnings: What users of the running server should know.
    """

    flags: list[Option] = field(default_factory=list)
    template: str = ""
    memory: MemoryNeeds | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def options(request: Request) -> Options:
    """
    Return the options that serve a checkpoint as a reranker.

    Args:
        request: The engine, the checkpoint and the settings.

    Raises:
        UnsupportedVersionError: This version cannot serve this kind of checkpoint.
        CheckpointError: The engine would give wrong scores with this checkpoint.
    """
    return _vllm(request) if request.engine.is_vllm else _sglang(request)


def _vllm(request: Request) -> Options:
    result = Options()
    flags, notes, version = result.flags, result.notes, request.version
    flags.append(("--runner", "pooling") if version >= (0, 10, 1) else ("--task", "score"))
    _vllm_quantization(request, result)
    _vllm_model(request, result)
    _vllm_template(request, result)
    limit = request.max_length + 1
    flags.append(("--max-model-len", str(limit)))
    notes.append(
        "--max-model-len: one token above the longest prompt, because vLLM 0.27 to 0.31 never "
        "finish a prompt of exactly this length that is computed in several steps"
    )
    # It is not known whether older CPU builds can compute a prompt in several steps.
    small_steps = request.cpu and version >= (0, 27, 0)
    in_one_step = version < (0, 26, 0)
    step = step_tokens(limit if in_one_step else request.max_length, cpu=small_steps)
    flags.append(("--max-num-batched-tokens", str(step)))
    if in_one_step and not request.cpu:
        flags.append(("--no-enable-chunked-prefill",))
        notes.append(
            "--no-enable-chunked-prefill: before 0.26 a prompt that is computed in several steps "
            "gets a wrong score under torch.compile, and vLLM fills up a step with the beginning "
            "of the next prompt"
        )
    _prefix_caching(request, result)
    needs = _memory(request, step)
    if request.cpu:
        flags += _vllm_cpu(request, needs)
        notes.append(
            "--enforce-eager: the server starts in seconds; without it, it compiles the model "
            "first and is faster afterwards"
        )
    else:
        result.memory = needs
    flags += _common(request)
    return result


def _vllm_quantization(request: Request, result: Options) -> None:
    """Reject a quantized checkpoint whose head vLLM would read as a quantized layer."""
    checkpoint = request.checkpoint
    if checkpoint is None:
        return
    reason = misread_head(checkpoint)
    if reason is not None:
        raise CheckpointError(f"{checkpoint.model}: {reason}. {PROBLEMS['quantized-head'].advice}")
    quantization = Quantization.of(checkpoint.config)
    if request.cpu and quantization is not None and quantization.is_float:
        result.warnings.append(
            f"{quantization.name} on a CPU: without AMX-FP8, vLLM 0.32 computes FP8 at about a "
            "third of bf16's speed; int8 is faster than bf16 on a CPU"
        )
    misread = request.kind == "causal" and request.version < (0, 18, 0)
    if misread and quantization is not None and quantization.covers("score"):
        title = f"{request.engine.title} {'.'.join(map(str, request.version))}"
        raise UnsupportedVersionError(
            f"{title} also quantizes the head of this quantized original "
            f"({quantization.name}). {PROBLEMS['quantized-original'].advice}"
        )


def _vllm_model(request: Request, result: Options) -> None:
    overrides: dict[str, Any] = dict(ORIGINAL) if request.kind == "causal" else {}
    if overrides:
        result.notes.append(
            "--hf-overrides: turns the original model's output into one score, yes - no"
        )
    if request.max_length >= request.positions:
        # Otherwise vLLM rejects the limit. No prompt uses the additional position.
        overrides["max_position_embeddings"] = request.max_length + 1
    if overrides:
        result.flags.append(("--hf-overrides", json.dumps(overrides)))


def _vllm_template(request: Request, result: Options) -> None:
    warnings, version = result.warnings, request.version
    if request.kind == "two-label":
        warnings.append(
            "two labels: vLLM serves them only at /classify, which accepts token ids from 0.16 on; "
            "/v1/rerank and /v1/score need the original or a checkpoint with one label"
        )
    elif version < (0, 14, 0):
        warnings.append(
            "before 0.14 vLLM has no score templates: /v1/rerank and /v1/score concatenate query "
            "and document, so clients must send the complete prompt in two parts, as this package "
            "does"
        )
    elif request.template == "client":
        warnings.append(
            "no --chat-template: for clients that write the prompt themselves and send it in two "
            "parts, as the examples of vLLM and vLLM-Ascend do; plain texts get wrong scores at "
            "/v1/rerank and /v1/score"
        )
        if version >= (0, 33, 0):
            warnings.append(
                "from 0.33 on vLLM applies the template that a sentence-transformers configuration "
                "of the checkpoint declares, even without --chat-template: serve such a checkpoint "
                "from a copy of its folder without that declaration"
            )
    else:
        result.template = request.engine.template
        result.notes.append(
            "--chat-template: for clients that send plain texts to /v1/rerank or /v1/score; this "
            "package sends token ids to /classify, which needs no template"
        )
        if version < (0, 22, 0):
            warnings.append(
                "before 0.22 a request cannot contain an instruction: the default one is used"
            )


def _prefix_caching(request: Request, result: Options) -> None:
    if request.engine.name == "vllm-ascend" and request.version < (0, 18, 0):
        # vLLM turns it on by default.
        result.flags.append(("--no-enable-prefix-caching",))
        result.warnings.append(
            "--no-enable-prefix-caching: vLLM-Ascend 0.12 to 0.17 computes the attention of "
            "pooling models without the cached tokens, so a prompt whose beginning is in the cache "
            "gets a wrong score (vllm-ascend#7145, #7192; fixed in 0.18 by #7452 and #7894); it is "
            "not known whether older versions do so too"
        )
    else:
        result.flags.append(("--enable-prefix-caching",))


def _memory(request: Request, step: int) -> MemoryNeeds | None:
    if request.checkpoint is None:
        return None
    args: dict[str, Any] = {
        "max_model_len": request.max_length,
        "max_num_batched_tokens": step,
        "dtype": request.dtype,
        "tensor_parallel_size": request.tensor_parallel,
    }
    return memory_needs(request.checkpoint, args)


def _vllm_cpu(request: Request, needs: MemoryNeeds | None) -> list[Option]:
    flags: list[Option] = [("--enforce-eager",)]
    # It is not known which of these options older CPU builds accept.
    if request.version >= (0, 27, 0):
        if needs is not None:
            flags.append(("--block-size", str(CPU_BLOCK)))
            flags.append(("--kv-cache-memory-bytes", str(needs.cache)))
        if request.tensor_parallel == request.data_parallel == 1:
            flags.append(("--distributed-executor-backend", "uni"))
    return flags


def _sglang(request: Request) -> Options:
    result = Options(flags=[("--context-length", str(request.max_length))])
    version = request.version
    title = f"{request.engine.title} {'.'.join(map(str, version))}"
    if request.kind == "one-label":
        raise UnsupportedVersionError(
            "SGLang gives every document the score 1.0 with a one-label checkpoint: serve the "
            "original, or convert it to two labels"
        )
    if request.kind == "two-label":
        if version < (0, 5, 4):
            raise UnsupportedVersionError(
                f"{title} has no /v1/classify, which a two-label checkpoint needs: serve the "
                "original, or use SGLang 0.5.4 or later"
            )
        result.flags.append(("--is-embedding",))
        result.notes.append("--is-embedding: SGLang serves classifiers this way, at /v1/classify")
    elif version < (0, 5, 6):
        result.warnings.append(
            f"{title} cannot rerank with this model at /v1/rerank, 0.5.6 can; /v1/score accepts "
            "token ids, which this package sends"
        )
    elif request.template == "client":
        result.warnings.append(
            "no --chat-template: for clients that write the prompt themselves and send its token "
            "ids to /v1/score, as this package does; /v1/rerank does not work without a template"
        )
    else:
        result.template = request.engine.template
        result.notes.append(
            "--chat-template: for clients that send plain texts to /v1/rerank; this package sends "
            "token ids to /v1/score, which needs no template"
        )
    if request.kind == "causal":
        result.notes.append("never add --is-embedding: the original model then returns a vector")
    if request.cpu:
        result.flags.append(("--device", "cpu"))
    result.flags += _common(request)
    result.notes.append("SGLang caches common beginnings of prompts by default (radix cache)")
    return result


def _common(request: Request) -> list[Option]:
    """Return the options that all engines have, under each engine's names."""
    flags: list[Option] = []
    if request.dtype != "auto":
        flags.append(("--dtype", request.dtype))
    if request.tensor_parallel > 1:
        flags.append((request.engine.tensor_option, str(request.tensor_parallel)))
    if request.data_parallel > 1:
        flags.append((request.engine.data_option, str(request.data_parallel)))
    return flags
