"""
The options of each engine's server, by version.

Read in the command lines of vLLM 0.9.2 to 0.33.0 and SGLang 0.4.10 to 0.5.23, and in the attention
of vLLM-Ascend 0.11.0 to 0.26.0. Run with vLLM 0.32.0 and SGLang 0.5.23 (tests/servers/test_serve.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from qwen3_reranker.embedded.engine_args import (
    CPU_BLOCK,
    ORIGINAL,
    MemoryNeeds,
    memory_needs,
    step_tokens,
)
from qwen3_reranker.errors import UnsupportedVersionError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.serve.versions import EngineName

__all__ = ["Device", "Kind", "Option", "Options", "Request", "Template", "options"]

Device = Literal["cpu", "gpu"]
"""Where an engine computes; "gpu" stands for every accelerator."""

Kind = Literal["causal", "one-label", "two-label"]
"""What a checkpoint is: an original, or converted to one label or to two."""

Template = Literal["server", "client"]
"""Who writes the prompt of clients that send text."""

Option = tuple[str, ...]
"""A flag with its value, or alone."""


@dataclass(frozen=True)
class Request:
    """
    What is to be served.

    Attributes:
        engine: What serves it.
        version: The engine's version. Those of vLLM-Ascend follow vLLM's.
        kind: What the checkpoint is.
        max_length: The most tokens of a prompt.
        positions: The most tokens that the model takes (`max_position_embeddings`).
        dtype: "auto", or what the weights are computed in.
        tensor_parallel: The devices that one copy of the model is spread over.
        data_parallel: The copies of the model.
        cpu: Whether there is no accelerator.
        template: Who writes the prompt of clients that send text.
        checkpoint: The checkpoint, where its files could be read.
    """

    engine: EngineName
    version: tuple[int, int, int]
    kind: Kind
    max_length: int
    positions: int
    dtype: str = "auto"
    tensor_parallel: int = 1
    data_parallel: int = 1
    cpu: bool = False
    template: Template = "server"
    checkpoint: Checkpoint | None = None


@dataclass
class Options:
    """
    The answer to a `Request`.

    Attributes:
        flags: The flags, in the order in which they are written.
        template: The name of the template file for `--chat-template`; "" for none.
        memory: What the model needs of each GPU; None on a CPU, and where that is not known.
        notes: Why a flag is there.
        warnings: What users of the running server should know.
    """

    flags: list[Option] = field(default_factory=list)
    template: str = ""
    memory: MemoryNeeds | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def options(request: Request) -> Options:
    """
    Return the flags that serve a checkpoint as a reranker.

    Raises:
        UnsupportedVersionError: This version cannot serve this kind of checkpoint.
    """
    return _BUILDERS[request.engine](request)


def _vllm(request: Request) -> Options:
    result = Options()
    flags, notes, version = result.flags, result.notes, request.version
    flags.append(("--runner", "pooling") if version >= (0, 10, 1) else ("--task", "score"))
    _vllm_model(request, result)
    _vllm_template(request, result)
    limit = request.max_length + 1
    flags.append(("--max-model-len", str(limit)))
    notes.append(
        "--max-model-len: a token above the longest prompt, because vLLM 0.27 to 0.31 never finish "
        "a prompt of exactly this length that takes several steps"
    )
    # Older CPU builds are not known to compute a prompt in several steps.
    small_steps = request.cpu and version >= (0, 27, 0)
    in_one_step = version < (0, 26, 0)
    step = step_tokens(limit if in_one_step else request.max_length, cpu=small_steps)
    flags.append(("--max-num-batched-tokens", str(step)))
    if in_one_step and not request.cpu:
        flags.append(("--no-enable-chunked-prefill",))
        notes.append(
            "--no-enable-chunked-prefill: before 0.26 a prompt that is computed in two steps under "
            "torch.compile gets a wrong score, and steps are filled with beginnings of prompts"
        )
    _prefix_caching(request, result)
    needs = _memory(request, step)
    if request.cpu:
        flags += _vllm_cpu(request, needs)
        notes.append(
            "--enforce-eager: up in seconds; without it the server compiles the model first, and is "
            "faster afterwards"
        )
    else:
        result.memory = needs
    flags += _shared(request, "--tensor-parallel-size", "--data-parallel-size")
    return result


def _vllm_model(request: Request, result: Options) -> None:
    overrides: dict[str, Any] = dict(ORIGINAL) if request.kind == "causal" else {}
    if overrides:
        result.notes.append(
            "--hf-overrides: makes one score, yes - no, of the original model's output"
        )
    if request.max_length >= request.positions:
        # Or vLLM refuses the limit. No prompt uses the additional position.
        overrides["max_position_embeddings"] = request.max_length + 1
    if overrides:
        result.flags.append(("--hf-overrides", json.dumps(overrides)))


def _vllm_template(request: Request, result: Options) -> None:
    warnings, version = result.warnings, request.version
    if request.kind == "two-label":
        warnings.append(
            "two labels: vLLM answers at /classify alone, and takes token ids there from 0.16 on; "
            "/v1/rerank and /v1/score want the original or a checkpoint of one label"
        )
    elif version < (0, 14, 0):
        warnings.append(
            "before 0.14 vLLM has no score templates: /v1/rerank and /v1/score join query and "
            "document with nothing between, so clients must send the written prompt in two halves "
            "(this package does)"
        )
    elif request.template == "client":
        warnings.append(
            "no --chat-template: for clients that write the prompt themselves and send it in two "
            "halves, as the examples of vLLM and vLLM-Ascend do; bare texts get wrong scores at "
            "/v1/rerank and /v1/score"
        )
        if version >= (0, 33, 0):
            warnings.append(
                "from 0.33 on vLLM applies a template that a sentence-transformers configuration "
                "of the checkpoint declares, also without --chat-template: such a checkpoint needs "
                "another folder without that declaration"
            )
    else:
        result.template = "vllm_score.jinja"
        result.notes.append(
            "--chat-template: for clients that send bare texts to /v1/rerank or /v1/score; this "
            "package sends token ids to /classify, which needs none"
        )
        if version < (0, 22, 0):
            warnings.append(
                "before 0.22 a request cannot name an instruction: the usual one is used"
            )


def _prefix_caching(request: Request, result: Options) -> None:
    if request.engine == "vllm-ascend" and request.version < (0, 18, 0):
        # vLLM switches it on by itself.
        result.flags.append(("--no-enable-prefix-caching",))
        result.warnings.append(
            "--no-enable-prefix-caching: vLLM-Ascend 0.12 to 0.17 computes the attention of pooling "
            "models without the cached tokens, so a prompt whose beginning is in the cache gets a "
            "wrong score (vllm-ascend#7145, #7192; fixed in 0.18 by #7452 and #7894); of older "
            "versions it is not known"
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
    # Of older CPU builds it is not known what they take.
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
    written = ".".join(map(str, version))
    if request.kind == "one-label":
        raise UnsupportedVersionError(
            "SGLang answers 1.0 to everything with a one-label checkpoint: serve the original, or "
            "convert it to two labels"
        )
    if request.kind == "two-label":
        if version < (0, 5, 4):
            raise UnsupportedVersionError(
                f"SGLang {written} has no /v1/classify for a two-label checkpoint, 0.5.4 has: serve "
                "the original there, or take a newer SGLang"
            )
        result.flags.append(("--is-embedding",))
        result.notes.append("--is-embedding: how SGLang serves a classifier, at /v1/classify")
    elif version < (0, 5, 6):
        result.warnings.append(
            f"SGLang {written} cannot rerank with this model at /v1/rerank, 0.5.6 can; /v1/score "
            "takes token ids (this package sends them)"
        )
    elif request.template == "client":
        result.warnings.append(
            "no --chat-template: for clients that write the prompt themselves and send its token "
            "ids to /v1/score, as this package does; /v1/rerank does not work without one"
        )
    else:
        result.template = "sglang_rerank.jinja"
        result.notes.append(
            "--chat-template: for clients that send bare texts to /v1/rerank; this package sends "
            "token ids to /v1/score, which needs none"
        )
    if request.kind == "causal":
        result.notes.append("never add --is-embedding: the original model then gives a vector")
    if request.cpu:
        result.flags.append(("--device", "cpu"))
    result.flags += _shared(request, "--tp-size", "--dp-size")
    result.notes.append("common beginnings of prompts are cached by themselves (radix cache)")
    return result


def _shared(request: Request, tensor: str, data: str) -> list[Option]:
    flags: list[Option] = []
    if request.dtype != "auto":
        flags.append(("--dtype", request.dtype))
    if request.tensor_parallel > 1:
        flags.append((tensor, str(request.tensor_parallel)))
    if request.data_parallel > 1:
        flags.append((data, str(request.data_parallel)))
    return flags


_BUILDERS: dict[EngineName, Callable[[Request], Options]] = {
    "vllm": _vllm,
    "vllm-ascend": _vllm,
    "sglang": _sglang,
}
