"""
The protocols of rerank servers, called dialects: one module per family of servers.

`register()` adds one. If the kind of a server is unknown, dialects are tried in the order of their
registration; those that accept token ids come first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qwen3_reranker.dialects.ascend import VllmAscend
from qwen3_reranker.dialects.base import (
    Dialect,
    HttpRequest,
    Limits,
    ScoreRequest,
    TemplateBy,
    require_list,
    scores_by_index,
)
from qwen3_reranker.dialects.cohere import CohereV1, CohereV2, Jina
from qwen3_reranker.dialects.completions import Completions
from qwen3_reranker.dialects.dashscope import DashScope, DashScopeNative
from qwen3_reranker.dialects.deepinfra import DeepInfra
from qwen3_reranker.dialects.gateway import Gateway
from qwen3_reranker.dialects.infinity import Infinity, LitellmInfinity
from qwen3_reranker.dialects.litellm import Litellm
from qwen3_reranker.dialects.llama_cpp import LlamaCpp
from qwen3_reranker.dialects.rerank import Rerank, RerankDialect
from qwen3_reranker.dialects.sglang import SglangClassify, SglangRerank, SglangScore
from qwen3_reranker.dialects.siliconflow import SiliconFlow
from qwen3_reranker.dialects.tei import Tei
from qwen3_reranker.dialects.vllm import VllmClassify, VllmGenerative, VllmRerank, VllmScore
from qwen3_reranker.dialects.xinference import Xinference, XinferenceVllm
from qwen3_reranker.errors import InputError

__all__ = [
    "Dialect",
    "HttpRequest",
    "Limits",
    "RerankDialect",
    "ScoreRequest",
    "TemplateBy",
    "dialects",
    "find",
    "register",
    "require_list",
    "scores_by_index",
]

D = TypeVar("D", bound=type[Dialect])
_register: dict[str, Dialect] = {}


def register(dialect: D) -> D:
    """
    Register a dialect under its name; a class decorator.

    It can then be selected with `dialect="..."`, and `dialect="auto"` tries it too.

    Args:
        dialect: A subclass of `Dialect` that is created without arguments.

    Returns:
        The same class.

    Raises:
        InputError: The name is taken.
    """
    if dialect.name == "auto" or dialect.name in _register:
        raise InputError(f"there is a dialect named {dialect.name!r} already: choose another name")
    _register[dialect.name] = dialect()
    return dialect


def dialects() -> list[Dialect]:
    """Return all registered dialects, in the order of their registration."""
    return list(_register.values())


def find(name: str) -> Dialect:
    """
    Return the dialect with a name.

    Args:
        name: The name, such as "vllm-classify".

    Raises:
        InputError: There is no such dialect.
    """
    if name not in _register:
        raise InputError(f"dialect={name!r}: give one of auto, {', '.join(sorted(_register))}")
    return _register[name]


_ALL: list[Callable[[], Dialect]] = [
    VllmClassify,
    SglangScore,
    VllmGenerative,
    VllmScore,
    VllmRerank,
    SglangRerank,
    Rerank,
    SglangClassify,
    Gateway,
    Tei,
    LlamaCpp,
    Xinference,
    XinferenceVllm,
    Litellm,
    LitellmInfinity,
    Infinity,
    VllmAscend,
    Completions,
    SiliconFlow,
    DashScope,
    DashScopeNative,
    DeepInfra,
    Jina,
    CohereV2,
    CohereV1,
]
for _dialect in _ALL:
    register(_dialect)  # type: ignore[type-var]
