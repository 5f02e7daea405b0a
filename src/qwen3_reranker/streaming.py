"""Score a stream of queries concurrently, in order, with bounded memory."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from qwen3_reranker import event_loop, tracing
from qwen3_reranker.query_sources import (
    AwaitedThreadSource,
    ListSource,
    Prepare,
    PreparedQuery,
    QuerySource,
    TaskSource,
    ThreadSource,
)
from qwen3_reranker.ranking import Ranking, ScoringJob, ranking_within
from qwen3_reranker.scorer import Scores
from qwen3_reranker.tracing import RerankSpan

__all__ = ["WINDOW", "Pair", "RanksStreams"]

T = TypeVar("T")
F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")

Pair = tuple[str, Sequence[str]]
"""A query with its documents."""

_Begin = Callable[[str, ScoringJob], tuple[Future[Scores | Exception], RerankSpan]]
_Finish = Callable[[ScoringJob, Scores | Exception], Ranking]

WINDOW = 2048
"""
The number of documents that are requested ahead.

It is large enough to fill an engine's batches, and bounds memory however many queries there are.
"""


class RanksStreams(ABC):
    """The methods of `Reranker` for more than one query."""

    @property
    @abstractmethod
    def model(self) -> str:
        """The model's name."""

    @abstractmethod
    def _prepare(self, query: str, documents: Sequence[str]) -> ScoringJob:
        """Validate a query and its documents."""

    @abstractmethod
    def _score(
        self, query: str, job: ScoringJob, instruction: str | None
    ) -> Coroutine[Any, Any, Scores | Exception]:
        """Return the scores of a job, or the error that takes their place."""

    def rerank_iter(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
    ) -> Iterator[Ranking]:
        """
        Rerank a stream of (query, documents) pairs concurrently, in order, with bounded memory.

        A result is yielded as soon as it is ready, even while `pairs` is still producing the next
        pair.

        Args:
            pairs: The queries with their documents, requested as needed, up to 2,048 documents
                ahead. An iterable other than a list or tuple is iterated in a thread of its own
                (open an sqlite3 connection that it reads with `check_same_thread=False`).
            top_n: Keep at most this many documents per query, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for these queries.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.

        Yields:
            One `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Like every error of `rerank()` and of `pairs`
                itself, it is raised after the results of the pairs before it, and cancels what is
                being scored.
        """
        finish = ranking_within(top_n, min_score)
        return _in_order(pairs, self._prepare_pair, self._begin(instruction, top_n), finish)

    def arerank_iter(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
    ) -> AsyncIterator[Ranking]:
        """
        Rerank a stream of (query, documents) pairs; the async version of `rerank_iter()`.

        A result is yielded as soon as it is ready, even while `pairs` is still producing the next
        pair.

        Args:
            pairs: The queries with their documents, requested as needed, up to 2,048 documents
                ahead. An async iterable is iterated in one task on the caller's loop, an iterable
                other than a list or tuple in a thread of its own.
            top_n: Keep at most this many documents per query, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for these queries.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.

        Returns:
            An async iterator of one `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Like every error of `rerank()` and of `pairs`
                itself, it is raised after the results of the pairs before it, and cancels what is
                being scored.
        """
        finish = ranking_within(top_n, min_score)
        return _ain_order(pairs, self._prepare_pair, self._begin(instruction, top_n), finish)

    def rerank_many(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        progress: bool = False,
    ) -> list[Ranking]:
        """
        Rerank a list of (query, documents) pairs concurrently.

        All pairs are validated before anything is scored.

        Args:
            pairs: The queries with their documents.
            top_n: Keep at most this many documents per query, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for these queries.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
            progress: Whether to show a progress bar that counts documents, on standard error.

        Returns:
            One `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Nothing has been scored then.
            RerankerError: Scoring failed, as in `rerank()`. The other pairs are canceled.
        """
        ranked = ranking_within(top_n, min_score)
        queries = [self._prepare_pair(pair) for pair in pairs]
        with _counting(queries, ranked, shown=progress) as finish:
            return list(_in_order(queries, _unchanged, self._begin(instruction, top_n), finish))

    async def arerank_many(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        progress: bool = False,
    ) -> list[Ranking]:
        """
        Rerank a list of (query, documents) pairs; the async version of `rerank_many()`.

        All pairs are validated before anything is scored. Canceling the awaiting task takes its
        requests out of the engine.

        Args:
            pairs: The queries with their documents.
            top_n: Keep at most this many documents per query, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for these queries.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
            progress: Whether to show a progress bar that counts documents, on standard error.

        Returns:
            One `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Nothing has been scored then.
            RerankerError: Scoring failed, as in `rerank()`. The other pairs are canceled.
        """
        ranked = ranking_within(top_n, min_score)
        queries = [self._prepare_pair(pair) for pair in pairs]
        with _counting(queries, ranked, shown=progress) as finish:
            stream = _ain_order(queries, _unchanged, self._begin(instruction, top_n), finish)
            return [hits async for hits in stream]

    def _prepare_pair(self, pair: Pair) -> PreparedQuery:
        query, documents = pair
        return query, self._prepare(query, documents)

    def _span(
        self, query: str, job: ScoringJob, top_n: int | None = None, *, name: str = "rerank"
    ) -> RerankSpan:
        """Start the span of a query."""
        call = tracing.Call(query, job.documents, lambda: self.model, top_n)
        return tracing.start_span(f"qwen3_reranker.{name}", call)

    def _begin(self, instruction: str | None, top_n: int | None) -> _Begin:
        def begin(query: str, job: ScoringJob) -> tuple[Future[Scores | Exception], RerankSpan]:
            span = self._span(query, job, top_n)
            with span.active():
                future = event_loop.submit(self._score(query, job, instruction))
            future.add_done_callback(span.stop)
            return future, span

        return begin


def _in_order(
    items: Iterable[T], prepare: Prepare[T], begin: _Begin, finish: _Finish
) -> Iterator[Ranking]:
    """
    Yield the hits of every item, in order, each as soon as it is ready.

    Items are requested as the window has room for them. An iterable other than a list or tuple
    may block, so it is iterated in a thread of its own. If the consumer stops, or an item fails,
    everything in the window is canceled.

    Args:
        items: One item per query.
        prepare: Turns an item into a query with its job.
        begin: Starts to score a query.
        finish: Turns what scoring returned into hits.
    """
    event_loop.require_waitable()
    source: QuerySource[Future[Any]]
    listed = isinstance(items, (list, tuple))
    source = ListSource(Future, items, prepare) if listed else ThreadSource(items, prepare)
    window = _Window(source.pull, begin, finish)
    try:
        while window.unfinished:
            if (hits := window.advance()) is not None:
                yield hits
            elif awaited := window.awaited:
                try:
                    wait(awaited, return_when=FIRST_COMPLETED)
                except BaseException:
                    event_loop.interrupted()
                    raise
    finally:
        window.cancel()
        source.stop()


async def _ain_order(
    items: Iterable[T] | AsyncIterable[T], prepare: Prepare[T], begin: _Begin, finish: _Finish
) -> AsyncIterator[Ranking]:
    """Yield what `_in_order()` yields; an async iterable is iterated in a task of its own."""

    def abegin(
        query: str, job: ScoringJob
    ) -> tuple[asyncio.Future[Scores | Exception], RerankSpan]:
        future, span = begin(query, job)
        return asyncio.wrap_future(future), span

    source: QuerySource[asyncio.Future[Any]]
    if isinstance(items, AsyncIterable):
        source = TaskSource(items, prepare)
    elif isinstance(items, (list, tuple)):
        source = ListSource(asyncio.get_running_loop().create_future, items, prepare)
    else:
        source = AwaitedThreadSource(items, prepare)
    window = _Window(source.pull, abegin, finish)
    try:
        while window.unfinished:
            if (hits := window.advance()) is not None:
                yield hits
            elif awaited := window.awaited:
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        window.cancel()
        source.stop()


def _unchanged(query: PreparedQuery) -> PreparedQuery:
    return query


@contextmanager
def _counting(
    queries: Sequence[PreparedQuery], finish: _Finish, *, shown: bool
) -> Iterator[_Finish]:
    """Yield `finish`, which advances a progress bar of documents if one is to be shown."""
    if not shown:
        yield finish
        return
    from tqdm import tqdm

    with tqdm(total=sum(len(job.documents) for _, job in queries), unit="doc") as bar:

        def counting(job: ScoringJob, scores: Scores | Exception) -> Ranking:
            bar.update(len(job.documents))
            return finish(job, scores)

        yield counting


class _Window(Generic[F]):
    """
    The queries that are being scored, oldest first, and the one after them.

    It never waits, so the sync and the async generator share it: each calls `advance()` until
    `unfinished` is false, and waits for one of `awaited` when that returns None.

    Args:
        pull: Requests the next query from the source.
        begin: Starts to score a query.
        finish: Turns what scoring returned into hits.
    """

    def __init__(
        self,
        pull: Callable[[], F],
        begin: Callable[[str, ScoringJob], tuple[F, RerankSpan]],
        finish: _Finish,
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
        if future.exception() is not None:
            return False  # raised in its turn, after the hits of the queries before it
        query = future.result()
        return query is None or self._size + _size(query[1]) <= WINDOW


def _size(job: ScoringJob) -> int:
    # Documents that are not scored take memory too, and so does a query without documents.
    return max(1, len(job.documents))
