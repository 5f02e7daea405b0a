"""The paths of a gateway's APIs, and the language of the errors on each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from qwen3_reranker.gateway import errors

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["RANKING", "RERANK", "SCORE", "IgnoreTrailingSlash", "error_body", "route_path"]

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


class IgnoreTrailingSlash:
    """
    An ASGI middleware that reads `/v1/rerank/` as `/v1/rerank`.

    A redirect, which is the framework's answer, is not followed by many clients.

    Args:
        app: The application.
        paths: The paths that may be followed by a slash.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request, without the slash at the end of its path."""
        if scope["type"] == "http" and scope["path"].endswith("/"):
            path = scope["path"].removesuffix("/")
            if route_path({**scope, "path": path}) in self._paths:
                scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def error_body(path: str) -> Callable[[errors.GatewayError], dict[str, Any]]:
    """Return the function that writes the errors of a path."""
    if path.startswith("/v2/"):
        return errors.cohere
    if path.endswith(("rerank", "ranking")):
        return errors.shared
    return errors.openai
