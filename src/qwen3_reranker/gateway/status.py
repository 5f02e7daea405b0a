"""The paths that say what a gateway serves, and whether it can."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from qwen3_reranker.gateway.api import models, tei
from qwen3_reranker.gateway.backend import Backend
from qwen3_reranker.gateway.config import GatewayConfig
from qwen3_reranker.gateway.docs_page import docs_page
from qwen3_reranker.gateway.readiness import Readiness
from qwen3_reranker.gateway.service import respond
from qwen3_reranker.version import __version__

__all__ = ["status_routes"]


def status_routes(backend: Backend, readiness: Readiness, config: GatewayConfig) -> APIRouter:
    """
    Return the routes of the models, of health and of readiness.

    Args:
        backend: What scores.
        readiness: Whether it can.
        config: Limits and keys.
    """
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models() -> Response:
        """List the model and the aliases."""
        return respond(models.describe_all(backend.names, backend.model))

    @router.get("/v1/models/{name:path}")
    async def describe_model(name: str) -> Response:
        """Describe the model, or an alias."""
        alias = backend.alias(name)
        return respond(models.describe(alias.name or backend.model, backend.model))

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """Describe all endpoints, for people."""
        listed = request.app.openapi()["paths"].items()
        gets = [
            (path, methods["get"]["description"]) for path, methods in listed if "get" in methods
        ]
        return HTMLResponse(docs_page(gets))

    @router.get("/version")
    async def version() -> Response:
        """Return the version, and the name by which this package recognizes a gateway."""
        return respond({"version": __version__, "software": "qwen3-reranker"})

    @router.get("/info")
    async def info() -> Response:
        """Describe the model as Text Embeddings Inference does."""
        return respond(tei.info(backend.model, config.limits))

    @router.get("/v1/cluster/auth")
    async def needs_key() -> Response:
        """Say whether requests need a key, which Xinference's client asks before it sends one."""
        return respond({"auth": bool(config.keys)})

    @router.head("/health", include_in_schema=False)
    @router.get("/health")
    async def health() -> Response:
        """Answer as long as the process runs."""
        return respond({"status": "ok"})

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready")
    async def ready() -> Response:
        """Say whether requests can be scored: 200 if so, 503 if not."""
        obstacle = await readiness.obstacle()
        if obstacle is None:
            return respond({"status": "ready"})
        return respond({"status": "not ready", "reason": obstacle}, 503)

    return router
