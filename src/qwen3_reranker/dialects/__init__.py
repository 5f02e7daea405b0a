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
    check_dialect,
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

    It can then be selected with `dialect="..."`, and `dialect="auto"` tries it too. A class that is
    defined again, as by a notebook's cell that runs twice, replaces the first one.

    Args:
        dialect: A subclass of `Dialect` that is created without arguments.

    Returns:
        The same class.

    Raises:
        InputError: The name is taken by another class, or the name or the paths are missing or not
            valid.
    """
    instance = dialect()
    check_dialect(instance)
    name = instance.name
    if name == "auto" or (name in _register and not _same_class(type(_register[name]), dialect)):
        raise InputError(f"there is a dialect named {name!r} already: choose another name")
    _register[name] = instance
    return dialect


def _same_class(first: type, second: type) -> bool:
    """Return whether two classes were defined by the same code."""
    return (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)


def dialects() -> list[Dialect]:
    """Return all registered dialects, in the order of their registration."""
    return list(_register.values())


def custom_dialects() -> list[Dialect]:
    """Return the registered dialects that are not part of this package."""
    return [dialect for dialect in dialects() if type(dialect) not in _ALL]


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
