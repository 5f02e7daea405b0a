"""The methods of `Reranker` that score a stream of queries."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
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
from typing import Any, TypeVar, Unpack

from qwen3_reranker import event_loop, tracing
from qwen3_reranker.answer import Answer, Selected, aselect, select
from qwen3_reranker.errors import InputError
from qwen3_reranker.options import document_options
from qwen3_reranker.ranking import Ranking, ScoringJob
from qwen3_reranker.selection import Selection, SelectionOptions
from qwen3_reranker.streaming.sources import (
    AwaitedThreadSource,
    ListSource,
    Prepare,
    PreparedQuery,
    QuerySource,
    TaskSource,
    ThreadSource,
)
from qwen3_reranker.streaming.window import Finish, Window
from qwen3_reranker.tracing import RerankSpan

__all__ = ["Pair", "RanksStreams", "validate_pair"]

T = TypeVar("T")

Pair = tuple[str, Sequence[str]]
"""A query with its documents."""

_Begin = Callable[[str, ScoringJob], tuple[Future[Answer], RerankSpan]]


def validate_pair(pair: Any) -> Pair:
    """
    Return the query and the documents of a pair, which are still to be validated.

    Raises:
        InputError: It does not have two parts.
    """
    try:
        query, documents = pair
    except (TypeError, ValueError):
        raise InputError(f"a pair is {pair!r:.80}: give (query, documents)") from None
    return query, documents


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
        self, query: str, job: ScoringJob, instruction: str | None, selection: Selection
    ) -> Coroutine[Any, Any, Answer]:
        """Return the scores of a job, or the error that takes their place, and the selection."""

    @document_options(SelectionOptions)
    def rerank_iter(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> Iterator[Ranking]:
        """
        Rerank a stream of (query, documents) pairs concurrently, in order, with bounded memory.

        A result is yielded as soon as it is ready, even while `pairs` is still producing the next
        pair.

        Args:
            pairs: The queries with their documents, requested as needed, up to 2,048 documents and
                one more query ahead. An iterable other than a list or tuple is iterated in a thread
                of its own (open an sqlite3 connection that it reads with
                `check_same_thread=False`).
            top_n: Keep at most this many documents per query, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for these queries.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
            **selection: Which documents to keep besides, see `SelectionOptions`.

        Yields:
            One `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Like every error of `rerank()` and of `pairs`
                itself, it is raised after the results of the pairs before it, and cancels what is
                being scored.
        """
        kept = Selection(top_n=top_n, min_score=min_score, **selection)
        return _in_order(pairs, self._prepare_pair, self._begin(instruction, kept), select)

    @document_options(SelectionOptions)
    def arerank_iter(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        **selection: Unpack[SelectionOptions],
    ) -> AsyncIterator[Ranking]:
        """
        Rerank a stream of (query, documents) pairs; the async version of `rerank_iter()`.

        A result is yielded as soon as it is ready, even while `pairs` is still producing the next
        pair.

        Args:
            pairs: The queries with their documents, requested as needed, up to 2,048 documents and
                one more query ahead. An async iterable is iterated in one task on the caller's
                loop, an iterable other than a list or tuple in a thread of its own.
            top_n: Keep at most this many documents per query, 1 or more. None keeps all.
            instruction: Replaces the reranker's own instruction for these queries.
            min_score: Keep only documents with at least this P(yes), in [0, 1]. None keeps all.
            **selection: Which documents to keep besides, see `SelectionOptions`.

        Returns:
            An async iterator of one `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Like every error of `rerank()` and of `pairs`
                itself, it is raised after the results of the pairs before it, and cancels what is
                being scored.
        """
        kept = Selection(top_n=top_n, min_score=min_score, **selection)
        return _ain_order(pairs, self._prepare_pair, self._begin(instruction, kept), _deliver)

    @document_options(SelectionOptions)
    def rerank_many(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        progress: bool = False,
        **selection: Unpack[SelectionOptions],
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
            **selection: Which documents to keep besides, see `SelectionOptions`.

        Returns:
            One `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Nothing has been scored then.
            RerankerError: Scoring failed, as in `rerank()`. The other pairs are canceled.
        """
        kept = Selection(top_n=top_n, min_score=min_score, **selection)
        queries = [self._prepare_pair(pair) for pair in pairs]
        with _counting(queries, select, shown=progress) as finish:
            return list(_in_order(queries, _unchanged, self._begin(instruction, kept), finish))

    @document_options(SelectionOptions)
    async def arerank_many(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        progress: bool = False,
        **selection: Unpack[SelectionOptions],
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
            **selection: Which documents to keep besides, see `SelectionOptions`.

        Returns:
            One `Ranking`, a list of hits, per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Nothing has been scored then.
            RerankerError: Scoring failed, as in `rerank()`. The other pairs are canceled.
        """
        kept = Selection(top_n=top_n, min_score=min_score, **selection)
        queries = [self._prepare_pair(pair) for pair in pairs]
        with _counting(queries, _deliver, shown=progress) as finish:
            stream = _ain_order(queries, _unchanged, self._begin(instruction, kept), finish)
            return [hits async for hits in stream]

    def _prepare_pair(self, pair: Pair) -> PreparedQuery:
        query, documents = validate_pair(pair)
        return query, self._prepare(query, documents)

    def _span(
        self, query: str, job: ScoringJob, top_n: int | None = None, *, name: str = "rerank"
    ) -> RerankSpan:
        """Start the span of a query."""
        call = tracing.Call(query, job.documents, lambda: self.model, top_n)
        return tracing.start_span(f"qwen3_reranker.{name}", call)

    def _begin(self, instruction: str | None, kept: Selection) -> _Begin:
        def begin(query: str, job: ScoringJob) -> tuple[Future[Answer], RerankSpan]:
            span = self._span(query, job, kept.top_n)
            with span.active():
                future = event_loop.submit(self._score(query, job, instruction, kept))
            future.add_done_callback(span.stop)
            return future, span

        return begin


def _in_order(
    items: Iterable[T], prepare: Prepare[T], begin: _Begin, finish: Finish
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
    window = Window(source.pull, begin, finish)
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
    items: Iterable[T] | AsyncIterable[T], prepare: Prepare[T], begin: _Begin, finish: Finish
) -> AsyncIterator[Ranking]:
    """Yield what `_in_order()` yields; an async iterable is iterated in a task of its own."""

    async def selected(job: ScoringJob, answer: asyncio.Future[Answer]) -> Selected:
        return await aselect(job, await answer)

    def abegin(query: str, job: ScoringJob) -> tuple[asyncio.Future[Selected], RerankSpan]:
        future, span = begin(query, job)
        task = asyncio.create_task(selected(job, asyncio.wrap_future(future)))
        # A task that is canceled before it has begun does not cancel what it would await.
        task.add_done_callback(lambda _: future.cancel())
        return task, span

    source: QuerySource[asyncio.Future[Any]]
    if isinstance(items, AsyncIterable):
        source = TaskSource(items, prepare)
    elif isinstance(items, (list, tuple)):
        source = ListSource(asyncio.get_running_loop().create_future, items, prepare)
    else:
        source = AwaitedThreadSource(items, prepare)
    window = Window(source.pull, abegin, finish)
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


def _deliver(_: ScoringJob, selected: Selected) -> Ranking:
    return selected.delivered()


@contextmanager
def _counting(queries: Sequence[PreparedQuery], finish: Finish, *, shown: bool) -> Iterator[Finish]:
    """Yield `finish`, which advances a progress bar of documents if one is to be shown."""
    if not shown:
        yield finish
        return
    from tqdm import tqdm

    with tqdm(total=sum(len(job.documents) for _, job in queries), unit="doc") as bar:

        def counting(job: ScoringJob, result: Any) -> Ranking:
            bar.update(len(job.documents))
            return finish(job, result)

        yield counting
