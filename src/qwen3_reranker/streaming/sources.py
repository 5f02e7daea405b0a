"""
Where the queries of `rerank_iter()` and `rerank_many()` come from: a list, a thread or a task.

A source prepares its items one at a time, on demand. The sync generator takes concurrent.futures
from it, the async one asyncio futures.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from qwen3_reranker.ranking import ScoringJob

__all__ = [
    "AwaitedThreadSource",
    "ListSource",
    "Prepare",
    "PreparedQuery",
    "QuerySource",
    "TaskSource",
    "ThreadSource",
]

T = TypeVar("T")
F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")
F_co = TypeVar("F_co", covariant=True)

PreparedQuery = tuple[str, ScoringJob]
"""A query that was validated, and the documents to score for it."""

Prepare = Callable[[T], PreparedQuery]
"""Validates an item; called where the items are iterated."""


class QuerySource(Protocol[F_co]):
    """Queries that are prepared one at a time, on demand."""

    def pull(self) -> F_co:
        """Request the next query. The future's result is None after the last."""

    def stop(self) -> None:
        """Request no more queries, and do not wait for one that is being produced."""


class ListSource(Generic[F]):
    """Items that are in memory, so their futures are always done."""

    def __init__(self, future: Callable[[], F], items: Iterable[T], prepare: Prepare[T]) -> None:
        self._future = future
        self._items = _prepared(items, prepare)

    def pull(self) -> F:
        """Prepare the next query. The future's result is None after the last."""
        future = self._future()
        _resolve(future, self._items)
        return future

    def stop(self) -> None:
        """Do nothing, since nothing is running."""


class ThreadSource:
    """Items of an iterator that may block, iterated in a thread with the caller's context."""

    def __init__(self, items: Iterable[T], prepare: Prepare[T]) -> None:
        self._requests: SimpleQueue[Future[Any] | None] = SimpleQueue()
        context = contextvars.copy_context()
        # A daemon: an iterator that blocks forever must not keep the interpreter from ending.
        threading.Thread(
            target=context.run,
            args=(_iterate, items, prepare, self._requests),
            name="qwen3-reranker-source",
            daemon=True,
        ).start()

    def pull(self) -> Future[Any]:
        """Request the next query. The future's result is None after the last."""
        future: Future[Any] = Future()
        self._requests.put(future)
        return future

    def stop(self) -> None:
        """End the thread when the iterator has returned."""
        self._requests.put(None)


class AwaitedThreadSource:
    """Items like those of `ThreadSource`, with futures that can be awaited."""

    def __init__(self, items: Iterable[T], prepare: Prepare[T]) -> None:
        self._thread = ThreadSource(items, prepare)

    def pull(self) -> asyncio.Future[Any]:
        """Request the next query. The future's result is None after the last."""
        return asyncio.wrap_future(self._thread.pull())

    def stop(self) -> None:
        """End the thread when the iterator has returned."""
        self._thread.stop()


class TaskSource:
    """Items of an async iterator, iterated in one task, as its context managers may require."""

    def __init__(self, items: AsyncIterable[T], prepare: Prepare[T]) -> None:
        self._requests: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        self._task = asyncio.create_task(_aiterate(items, prepare, self._requests))

    def pull(self) -> asyncio.Future[Any]:
        """Request the next query. The future's result is None after the last."""
        future = asyncio.get_running_loop().create_future()
        self._requests.put_nowait(future)
        return future

    def stop(self) -> None:
        """Cancel the task."""
        self._task.cancel()


def _iterate(
    items: Iterable[T], prepare: Prepare[T], requests: SimpleQueue[Future[Any] | None]
) -> None:
    iterator = _prepared(items, prepare)
    while (future := requests.get()) is not None:
        if future.set_running_or_notify_cancel():
            _resolve(future, iterator)


def _prepared(items: Iterable[T], prepare: Prepare[T]) -> Iterator[PreparedQuery]:
    """
    Yield the prepared items, each error in its turn.

    Unlike with map(), an error of iter() is that of the first item, and a StopIteration from
    `prepare` is a RuntimeError instead of the end (PEP 479).
    """
    for item in items:
        yield prepare(item)


async def _aiterate(
    items: AsyncIterable[T], prepare: Prepare[T], requests: asyncio.Queue[asyncio.Future[Any]]
) -> None:
    iterator = _aprepared(items, prepare)
    while True:
        future = await requests.get()
        try:
            query = await anext(iterator, None)
        except asyncio.CancelledError:  # of `stop`, or raised by the iterator itself
            future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # raised where the hits are awaited
            future.set_exception(error)
        else:
            future.set_result(query)


async def _aprepared(items: AsyncIterable[T], prepare: Prepare[T]) -> AsyncIterator[PreparedQuery]:
    """Yield what `_prepared()` yields."""
    async for item in items:
        yield prepare(item)


def _resolve(future: Future[Any] | asyncio.Future[Any], iterator: Iterator[PreparedQuery]) -> None:
    """Set a future to the iterator's next item, to None after the last, or to its error."""
    try:
        query = next(iterator, None)
    except BaseException as error:  # noqa: BLE001  # raised where the hits are awaited
        future.set_exception(error)
    else:
        future.set_result(query)
