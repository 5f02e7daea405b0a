"""The paths that say what a gateway serves, whether it can, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from qwen3_reranker.gateway.api import models, tei
from qwen3_reranker.gateway.backend import Backend
from qwen3_reranker.gateway.config import GatewayConfig
from qwen3_reranker.gateway.docs_page import docs_page
from qwen3_reranker.gateway.metrics import Metrics
from qwen3_reranker.gateway.readiness import Readiness
from qwen3_reranker.gateway.service import respond
from qwen3_reranker.version import __version__

__all__ = ["status_routes"]

H = TypeVar("H", bound=Callable[..., Any])


def status_routes(
    backend: Backend, readiness: Readiness, metrics: Metrics, config: GatewayConfig
) -> APIRouter:
    """
    Return the routes of the models, of health, of readiness and of the metrics.

    Each of them answers HEAD, too.

    Args:
        backend: What scores.
        readiness: Whether it can.
        metrics: What it did.
        config: Limits and keys.
    """
    router = APIRouter()
    _get(router, "/favicon.ico", in_schema=False)(_no_icon)

    @_get(router, "/v1/models")
    async def list_models() -> Response:
        """List the model and the aliases."""
        return respond(models.describe_all(backend.names, backend.model))

    @_get(router, "/v1/models/{name:path}")
    async def describe_model(name: str) -> Response:
        """Describe the model, or an alias."""
        alias = backend.alias(name)
        return respond(models.describe(alias.name or backend.model, backend.model))

    @_get(router, "/docs", in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """Describe all endpoints, for people."""
        listed = request.app.openapi()["paths"].items()
        gets = [
            (path, methods["get"].get("description", ""))
            for path, methods in listed
            if "get" in methods
        ]
        return HTMLResponse(docs_page(gets))

    @_get(router, "/version")
    async def version() -> Response:
        """Return the version, and the name by which this package recognizes a gateway."""
        return respond({"version": __version__, "software": "qwen3-reranker"})

    @_get(router, "/info")
    async def info() -> Response:
        """Describe the model as Text Embeddings Inference does."""
        return respond(tei.info(backend.model, config.limits))

    @_get(router, "/v1/cluster/auth")
    async def needs_key() -> Response:
        """Say whether requests need a key, which Xinference's client asks before it sends one."""
        return respond({"auth": bool(config.keys)})

    @_get(router, "/health")
    async def health() -> Response:
        """Answer as long as the process runs."""
        return respond({"status": "ok"})

    @_get(router, "/ready")
    async def ready() -> Response:
        """Say whether requests can be scored: 200 if so, 503 if not."""
        obstacle = await readiness.obstacle()
        if obstacle is None:
            return respond({"status": "ready"})
        return respond({"status": "not ready", "reason": obstacle}, 503)

    _get(router, "/metrics")(metrics.answer)
    return router


async def _no_icon() -> Response:
    """Say that there is no icon, for which browsers ask beside each page."""
    return Response(status_code=204, headers={"Cache-Control": "max-age=86400"})


def _get(router: APIRouter, path: str, *, in_schema: bool = True) -> Callable[[H], H]:
    """Return a decorator that lets a function answer GET and HEAD."""

    def add(handler: H) -> H:
        router.head(path, include_in_schema=False)(handler)
        return router.get(path, include_in_schema=in_schema)(handler)

    return add
