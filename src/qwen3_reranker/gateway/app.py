"""The application: which path does what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwen3_reranker.errors import RerankerError
from qwen3_reranker.gateway.backend import Backend, MakeReranker
from qwen3_reranker.gateway.config import GatewayConfig
from qwen3_reranker.gateway.endpoints import ENDPOINTS
from qwen3_reranker.gateway.errors import GatewayError
from qwen3_reranker.gateway.keys import RequireKey
from qwen3_reranker.gateway.metrics import Metrics
from qwen3_reranker.gateway.paths import IgnoreTrailingSlash, error_body, route_path
from qwen3_reranker.gateway.readiness import Readiness
from qwen3_reranker.gateway.records import Observer, RecordRequests
from qwen3_reranker.gateway.schema import operation, responses
from qwen3_reranker.gateway.service import Service, respond
from qwen3_reranker.gateway.status import status_routes
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.version import __version__

__all__ = ["create_app"]


def create_app(
    reranker: Reranker | MakeReranker,
    config: GatewayConfig | None = None,
    *,
    observers: Sequence[Observer] = (),
    on_failure: Callable[[RerankerError], None] | None = None,
) -> FastAPI:
    """
    Return an application that speaks the rerank APIs of Jina, Cohere, TEI, vLLM and others.

    The engine starts together with the application; `/ready` says when it can score. An application
    that is mounted in another one starts it at the first request.

    Args:
        reranker: What scores: a `Reranker`, which the caller closes, or a function that makes one
            with the options for long documents that it is given, such as
            `functools.partial(Reranker, "demo")`. What it makes is closed at the end of the
            application's lifespan. A mounted application has none: keep the rerankers that the
            function makes, and close them yourself.
        config: Aliases, limits and keys. None has no aliases and needs no key.
        observers: What to call with the record of each request when it has been answered.
        on_failure: Called if the start fails, with an error that trying again would not mend.

    Raises:
        InputError: The configuration does not fit the reranker.

    Example:
        ```python
        from fastapi import FastAPI
        from qwen3_reranker import Reranker
        from qwen3_reranker.gateway import create_app

        app = FastAPI()
        app.mount("/reranker", create_app(Reranker("demo")))
        ```
    """
    config = config or GatewayConfig()
    backend = Backend(reranker, config)
    readiness = Readiness(backend, on_failure)
    service = Service(backend, config.limits, readiness)
    metrics = Metrics(backend, service.admission, readiness)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        readiness.begin()
        try:
            yield
        finally:
            await readiness.end()
            await backend.aclose()

    async def begin() -> None:
        """Start with the first request: a mounted application has no lifespan."""
        readiness.begin()

    app = FastAPI(
        title="qwen3-reranker",
        version=__version__,
        lifespan=lifespan,
        dependencies=[Depends(begin)],
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(RequireKey, keys=config.keys)
    app.add_middleware(RecordRequests, observers=(metrics.observe, *observers))
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(GatewayError, _answer_gateway_error)

    for endpoint in ENDPOINTS:
        for path in endpoint.paths:
            app.add_api_route(
                path,
                service.handler(endpoint),
                methods=["POST"],
                name=endpoint.apis[0].name,
                summary=endpoint.summary,
                responses=responses(endpoint),
                openapi_extra=operation(endpoint),
            )
    # For what is offered beside the APIs, such as the playground.
    app.state.backend, app.state.admission = backend, service.admission
    status = status_routes(backend, readiness, metrics, config)
    app.include_router(status)
    paths = {route.path for route in (*app.routes, *status.routes) if isinstance(route, Route)}
    app.add_middleware(IgnoreTrailingSlash, paths=paths)
    return app


async def _answer_gateway_error(request: Request, error: Exception) -> Response:
    """Answer in the language of the path."""
    assert isinstance(error, GatewayError)
    body = error_body(route_path(request.scope))(error)
    return respond(body, error.status, error.headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for an unknown path, or with a method that it does not have."""
    assert isinstance(error, HTTPException)
    path = route_path(request.scope)
    message = str(error.detail)
    if error.status_code == 404:
        paths = ", ".join(path for endpoint in ENDPOINTS for path in endpoint.paths)
        message = f"there is no {path!r:.200} here: the paths are {paths}"
        if path.startswith("/v1/v"):
            message += ". Leave /v1 out of the base URL, which this client adds itself"
    elif error.status_code == 405:
        message = f"{path} does not allow {request.method}"
    failure = GatewayError(error.status_code, message, headers=dict(error.headers or {}))
    return await _answer_gateway_error(request, failure)
