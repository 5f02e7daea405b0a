"""What a request may contain, how many are accepted at a time, and how their bodies are read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_reranker.errors import InputError
from qwen3_reranker.gateway.errors import GatewayError

if TYPE_CHECKING:
    from starlette.requests import Request

    from qwen3_reranker.gateway.api.job import Job

__all__ = ["Admission", "Limits", "read_body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What a request may contain, and how many are accepted at a time.

    Args:
        max_body: The maximum size of a request's body, in bytes.
        max_documents: The maximum number of documents in a request.
        max_characters: The maximum number of characters in a request's queries, documents and
            instruction together.
        max_active: How many requests are scored at a time. The others wait.
        max_queue: How many requests may wait. Further ones are refused with status 503.
        request_timeout: The seconds within which a request must be received and answered.

    Raises:
        InputError: A limit is not a number in its range.
    """

    max_body: int = 32 * 2**20
    max_documents: int = 1000
    max_characters: int = 5_000_000
    max_active: int = 64
    max_queue: int = 256
    request_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_body", "max_documents", "max_characters", "max_active", "max_queue"):
            value, least = getattr(self, name), int(name != "max_queue")
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: give a whole number of at least {least}")
        seconds = self.request_timeout
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 < seconds < math.inf:
            raise InputError(f"request_timeout={seconds!r}: give a number of seconds above 0")

    def check(self, job: Job) -> None:
        """
        Refuse a request that is too large.

        Raises:
            GatewayError: It has too many documents or characters.
        """
        self.check_count(job.document_count)
        characters = job.character_count
        if characters > self.max_characters:
            raise GatewayError(
                413,
                f"the request has {characters} characters, and at most {self.max_characters} are "
                "accepted: send fewer or shorter documents, in several requests",
            )

    def check_count(self, documents: int) -> None:
        """
        Refuse a request with too many documents.

        Raises:
            GatewayError: It has too many.
        """
        if documents > self.max_documents:
            raise GatewayError(
                422,
                f"the request has {documents} documents, and at most {self.max_documents} are "
                "accepted: send fewer, in several requests",
            )


class Admission:
    """
    Accept requests up to a limit, and let some of them be scored at a time, in order of arrival.

    Args:
        limits: How many are scored, and how many may wait.

    Attributes:
        present: The number of requests that have been accepted and not been answered.
        waiting: The number of those that wait for their turn to be scored.
        active: The number of those that are being scored.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.max_active + limits.max_queue
        self._slots = asyncio.Semaphore(limits.max_active)
        self.present = self.waiting = self.active = 0

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """
        Accept a request for the duration of a `with` block.

        Raises:
            GatewayError: Too many requests wait already.
        """
        if self.present >= self._limit:
            message = f"{self.present} requests are being processed already: try again later"
            raise GatewayError(503, message, retry_after=1)
        self.present += 1
        try:
            yield
        finally:
            self.present -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until the request may be scored, and let the next one begin after the block."""
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._slots.release()


async def read_body(request: Request, limit: int) -> bytes:
    """
    Read a request's body, at most as far as it is accepted.

    Args:
        request: The request.
        limit: The maximum size in bytes.

    Raises:
        GatewayError: The body is larger, or compressed. If the request says so, nothing of it is
            read.
    """

    def refuse() -> GatewayError:
        return GatewayError(
            413, f"the body is larger than {limit} bytes: send fewer documents, in several requests"
        )

    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise GatewayError(415, f"Content-Encoding {coding!r:.80}: send the body uncompressed")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise refuse()
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise refuse()
        pieces.append(piece)
    return b"".join(pieces)
