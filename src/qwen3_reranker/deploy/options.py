"""
The options of each engine's server, by version.

Read in the command lines of vLLM 0.9.2 to 0.33.0 and SGLang 0.4.10 to 0.5.23, and run with vLLM
0.32.0 and SGLang 0.5.23 (tests/test_serve_real.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from qwen3_reranker.checkpoint import Checkpoint
from qwen3_reranker.deploy.versions import EngineName
from qwen3_reranker.errors import UnsupportedVersionError
from qwen3_reranker.scorers.engine_args import ORIGINAL, engine_arguments, step_tokens

__all__ = ["Kind", "Option", "Options", "Request", "options"]

Kind = Literal["causal", "one-label", "two-label"]
Option = tuple[str, ...]
"""A flag with its value, or alone."""


@dataclass(frozen=True)
class Request:
    """
    What is to be served.

    Attributes:
        engine, version: By what; the version's numbers. Of vLLM-Ascend they follow vLLM's.
        kind: The checkpoint's.
        max_length: The most tokens of a prompt.
        dtype: "auto", or what the weights are computed in.
        tensor_parallel: The devices that one copy of the model takes.
        data_parallel: The copies.
        cpu: Whether there is no accelerator.
        checkpoint: The checkpoint, where its files could be read.
    """

    engine: EngineName
    version: tuple[int, int, int]
    kind: Kind
    max_length: int
    dtype: str = "auto"
    tensor_parallel: int = 1
    data_parallel: int = 1
    cpu: bool = False
    checkpoint: Checkpoint | None = None


@dataclass
class Options:
    """
    The answer to a `Request`.

    Attributes:
        flags: In the order that they are written in.
        template: The name of the template file that goes with `--chat-template`; "" for none.
        notes: What a person should know, and why a flag is there.
    """

    flags: list[Option] = field(default_factory=list)
    template: str = ""
    notes: list[str] = field(default_factory=list)


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
    if request.kind == "causal":
        flags.append(("--hf-overrides", json.dumps(ORIGINAL)))
        notes.append("--hf-overrides: makes one score, yes - no, of the original model's output")
    _vllm_template(request, result)
    flags.append(("--max-model-len", str(request.max_length)))
    # Older CPU builds are not known to compute a prompt in several steps.
    small_steps = request.cpu and version >= (0, 27, 0)
    step = step_tokens(request.max_length, cpu=small_steps)
    flags.append(("--max-num-batched-tokens", str(step)))
    if version < (0, 26, 0) and not request.cpu:
        flags.append(("--no-enable-chunked-prefill",))
        notes.append(
            "--no-enable-chunked-prefill: before 0.26 a prompt that is computed in two steps under "
            "torch.compile gets a wrong score, and steps are filled with beginnings of prompts"
        )
    flags.append(("--enable-prefix-caching",))
    if request.cpu:
        flags += _vllm_cpu(request)
        notes.append(
            "--enforce-eager: up in seconds; without it the server compiles the model first, and is "
            "faster afterwards"
        )
    flags += _shared(request, "--tensor-parallel-size", "--data-parallel-size")
    return result


def _vllm_template(request: Request, result: Options) -> None:
    notes, version = result.notes, request.version
    if request.kind == "two-label":
        notes.append(
            "two labels: vLLM answers at /classify alone, and takes token ids there from 0.16 on; "
            "/v1/rerank and /v1/score want the original or a checkpoint of one label"
        )
    elif version < (0, 14, 0):
        notes.append(
            "before 0.14 vLLM has no score templates: /v1/rerank and /v1/score join query and "
            "document with nothing between, so clients must send the written prompt in two halves "
            "(this package does)"
        )
    else:
        result.template = "vllm_score.jinja"
        notes.append(
            "--chat-template: for clients that send bare texts to /v1/rerank or /v1/score; this "
            "package sends token ids to /classify, which needs none"
        )
        if version < (0, 22, 0):
            notes.append("before 0.22 a request cannot name an instruction: the usual one is used")


def _vllm_cpu(request: Request) -> list[Option]:
    flags: list[Option] = [("--enforce-eager",)]
    # Of older CPU builds it is not known what they take.
    if request.version >= (0, 27, 0):
        user = {"dtype": request.dtype, "tensor_parallel_size": request.tensor_parallel}
        if request.checkpoint is not None:
            args = engine_arguments(
                request.checkpoint, request.max_length, user, device_memory=None
            )
            flags.append(("--block-size", str(args["block_size"])))
            flags.append(("--kv-cache-memory-bytes", str(args["kv_cache_memory_bytes"])))
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
    elif version >= (0, 5, 6):
        result.template = "sglang_rerank.jinja"
        result.notes.append(
            "--chat-template: for clients that send bare texts to /v1/rerank; this package sends "
            "token ids to /v1/score, which needs none"
        )
    else:
        result.notes.append(
            f"SGLang {written} cannot rerank with this model at /v1/rerank, 0.5.6 can; /v1/score "
            "takes token ids (this package sends them)"
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
