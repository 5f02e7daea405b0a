"""The limits of a gateway for the playground beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from qwen3_reranker.errors import InputError, RerankerError
from qwen3_reranker.gateway import errors
from qwen3_reranker.gateway.api.job import Job
from qwen3_reranker.gateway.errors import GatewayError
from qwen3_reranker.gateway.limits import Admission, Limits
from qwen3_reranker.gateway.paths import route_path
from qwen3_reranker.gateway.service import respond

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["GatewayPageLimits", "LimitBodies"]


class GatewayPageLimits:
    """
    Apply a gateway's limits to what its page has scored.

    A run of the page is checked as one request. It is scored in parts, each of which waits for its
    turn and has to be scored in time as a request.

    Args:
        limits: What a request may contain.
        admission: The requests that are being processed.
    """

    def __init__(self, limits: Limits, admission: Admission) -> None:
        self._limits = limits
        self._admission = admission

    def check(self, query: str, documents: Sequence[str], instruction: str) -> None:
        """
        Check what is to be scored.

        Raises:
            InputError: There are too many documents or characters.
        """
        queries = [(query, documents)]
        job = Job(model=None, queries=queries, instruction=instruction, render=lambda *_: None)
        try:
            self._limits.check(job)
        except GatewayError as error:
            raise InputError(error.message) from None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """
        Wait until documents may be scored, and let the next request begin after the block.

        Raises:
            RerankerError: Too many requests wait already, or the time is up.
        """
        seconds = self._limits.request_timeout
        try:
            with self._admission.accepted():
                async with asyncio.timeout(seconds), self._admission.turn():
                    yield
        except GatewayError as error:
            raise RerankerError(error.message) from None
        except TimeoutError:
            message = f"the documents could not be scored within {seconds:g} seconds: try again"
            raise RerankerError(message) from None


class LimitBodies:
    """
    An ASGI middleware that refuses requests to a page with bodies that are too large.

    Args:
        app: The application.
        path: The path of the page.
        limit: The maximum size of a body, in bytes.
    """

    def __init__(self, app: ASGIApp, path: str, limit: int) -> None:
        self._app = app
        self._prefix = f"{path}/"
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request, or refuse it before its body is read."""
        error = None
        if scope["type"] == "http" and route_path(scope).startswith(self._prefix):
            error = self._refusal(Headers(scope=scope))
        if error is None:
            await self._app(scope, receive, send)
        else:
            await respond(errors.openai(error), error.status)(scope, receive, send)

    def _refusal(self, headers: Headers) -> GatewayError | None:
        # Browsers say how long the bodies are that they send.
        if "transfer-encoding" in headers:
            return GatewayError(411, "the body has no Content-Length")
        if int(headers.get("content-length", 0)) > self._limit:
            return GatewayError(413, f"the body is larger than {self._limit} bytes")
        return None
