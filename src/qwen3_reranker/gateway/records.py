"""What is known of a request while it is processed, for metrics and logs."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qwen3_reranker.usage import Usage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Observer", "RecordRequests", "RequestRecord", "record_of"]

_KEY = "qwen3_reranker.record"
# Nothing that breaks a line of a log or is long.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


@dataclass(slots=True)
class RequestRecord:
    """
    A request and what it cost. It never holds texts or keys.

    Attributes:
        method: The HTTP method.
        path: The path, without a slash at its end that the gateway ignores.
        request_id: The client's `X-Request-Id`, or a new one. The answer has it, too.
        trace_id: The trace of the client's `traceparent` (W3C Trace Context); None if it has none.
        api: The API that the request belongs to, such as "rerank" or "tei"; None for any other
            path, and without a right key.
        alias: The alias or model that it was scored with. None if it was not scored.
        status: The HTTP status of the answer; 499 if the client went away before.
        documents: The number of its documents.
        queue_seconds: How long it waited to be scored. None if it was refused before.
        scoring_seconds: How long it was scored. None if it was not.
        seconds: How long it took as a whole.
        usage: What scoring cost.
    """

    method: str
    path: str
    request_id: str
    trace_id: str | None = None
    api: str | None = None
    alias: str | None = None
    status: int = 499
    documents: int = 0
    queue_seconds: float | None = None
    scoring_seconds: float | None = None
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
        record = scope[_KEY] = _record(scope)
        request_id = (b"x-request-id", record.request_id.encode())

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), request_id]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_recorded)
        except Exception:
            record.status = 500  # as the server answers
            raise
        finally:
            record.seconds = time.perf_counter() - started
            for observe in self._observers:
                observe(record)


def _record(scope: Scope) -> RequestRecord:
    """Return the record of a request that has just been received."""
    headers = dict(scope["headers"])
    given = headers.get(b"x-request-id", b"")
    request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    trace = _TRACE_PARENT.fullmatch(headers.get(b"traceparent", b""))
    trace_id = trace[1].decode() if trace else None
    return RequestRecord(scope["method"], scope["path"], request_id, trace_id)
