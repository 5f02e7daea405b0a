"""What is known of a request while it is processed, for metrics and logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qwen3_reranker.usage import Usage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Observer", "RecordRequests", "RequestRecord", "record_of"]

_KEY = "qwen3_reranker.record"


@dataclass(slots=True)
class RequestRecord:
    """
    A request and what it cost. It never holds texts or keys.

    Attributes:
        method: The HTTP method.
        path: The path as the client sent it.
        api: The API that the request belongs to, such as "rerank" or "tei"; None for any other
            path, and for a request that was refused before its body was read.
        alias: The alias or model that it was scored with. None if it was not scored.
        status: The HTTP status of the answer; 499 if the client went away before.
        documents: The number of its documents.
        queue_seconds: How long it waited to be scored.
        scoring_seconds: How long it was scored.
        seconds: How long it took as a whole.
        usage: What scoring cost.
    """

    method: str
    path: str
    api: str | None = None
    alias: str | None = None
    status: int = 499
    documents: int = 0
    queue_seconds: float = 0.0
    scoring_seconds: float = 0.0
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)


Observer = Callable[[RequestRecord], None]
"""Is called with each request when it has been answered. It must not block."""


def record_of(scope: Scope) -> RequestRecord:
    """Return the record of the request that is being processed."""
    record: RequestRecord = scope[_KEY]
    return record


class RecordRequests:
    """
    An ASGI middleware that keeps a record of each request, and calls observers at its end.

    Args:
        app: The application.
        observers: What to call with each record.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[_KEY] = RequestRecord(scope["method"], scope["path"])

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_recorded)
        finally:
            record.seconds = time.perf_counter() - started
            for observe in self._observers:
                observe(record)
