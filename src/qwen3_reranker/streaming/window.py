"""The queries of a stream that are being scored, in order and with bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from qwen3_reranker.ranking import Ranking, ScoringJob
from qwen3_reranker.tracing import RerankSpan

__all__ = ["WINDOW", "Finish", "Window"]

F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")

Finish = Callable[[ScoringJob, Any], Ranking]
"""A function that turns the result of a query's future into its ranking."""

WINDOW = 2048
"""
The number of documents that are requested ahead.

It is large enough to fill an engine's batches, and bounds memory however many queries there are.
"""


class Window(Generic[F]):
    """
    The queries that are being scored, oldest first, and the one after them.

    It never waits, so the sync and the async generator share it: each calls `advance()` until
    `unfinished` is false, and waits for one of `awaited` when that returns None.

    Args:
        pull: Requests the next query from the source.
        begin: Starts to score a query.
        finish: Turns the result of the future that `begin` returned into hits.
    """

    def __init__(
        self,
        pull: Callable[[], F],
        begin: Callable[[str, ScoringJob], tuple[F, RerankSpan]],
        finish: Finish,
    ) -> None:
        self._pull, self._begin, self._finish = pull, begin, finish
        self._size = 0
        self._queue: deque[tuple[ScoringJob, F, RerankSpan]] = deque()
        # The query after those in the queue; None after the last.
        self._next: F | None = pull()

    @property
    def unfinished(self) -> bool:
        """Whether there are more results."""
        return self._next is not None or bool(self._queue)

    def advance(self) -> Ranking | None:
        """Admit the next query if it fits. Return the hits of the oldest one if they are ready."""
        if self._next is not None and self._next.done() and self._fits(self._next):
            query = self._next.result()
            self._next = None
            if query is not None:
                text, job = query
                self._queue.append((job, *self._begin(text, job)))
                self._size += _size(job)
                self._next = self._pull()
        if not self._queue or not self._queue[0][1].done():
            return None
        job, scores, span = self._queue.popleft()
        self._size -= _size(job)
        with span.ending():
            return span.record(self._finish(job, scores.result()))

    @property
    def awaited(self) -> list[F]:
        """The futures that `advance()` may be waiting for."""
        awaited = [scores for _, scores, _ in self._queue][:1]
        if self._next is not None and (not self._next.done() or self._fits(self._next)):
            awaited.append(self._next)
        return awaited

    def cancel(self) -> None:
        """Cancel everything that is not done."""
        for future in [*(scores for _, scores, _ in self._queue), self._next]:
            if future is None:
                continue
            future.cancel()
            if future.done() and not future.cancelled():
                future.exception()  # retrieve it, or asyncio logs it
        for _, _, span in self._queue:
            span.cancel()

    def _fits(self, future: F) -> bool:
        """
        Return whether the window has room for a query.

        A query larger than the window is admitted only when it is empty.
        """
        if not self._queue:
            return True
        if future.cancelled() or future.exception() is not None:
            return False  # raised in its turn, after the hits of the queries before it
        query = future.result()
        return query is None or self._size + _size(query[1]) <= WINDOW


def _size(job: ScoringJob) -> int:
    # Documents that are not scored take memory too, and so does a query without documents.
    return max(1, len(job.documents))
