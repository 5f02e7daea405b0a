"""The paths of a gateway's APIs, and the language of the errors on each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qwen3_reranker.gateway import errors

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["RANKING", "RERANK", "SCORE", "error_body", "route_path"]

RERANK = ("/rerank", "/v1/rerank", "/v2/rerank", "/api/rerank")
"""Jina, Cohere, vLLM, Xinference, SiliconFlow, Ollama's clients, and TEI by its `texts`."""

SCORE = ("/score", "/v1/score")
"""vLLM."""

RANKING = ("/ranking", "/v1/ranking", "/reranking", "/v1/reranking")
"""NVIDIA's inference microservices; RAGFlow's client of them uses the last two."""


def route_path(scope: Scope) -> str:
    """Return a request's path without the prefix that the application is mounted at."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def error_body(path: str) -> Callable[[errors.GatewayError], dict[str, Any]]:
    """Return the function that writes the errors of a path."""
    if path.startswith("/v2/"):
        return errors.cohere
    if path.endswith(("rerank", "ranking")):
        return errors.shared
    return errors.openai
