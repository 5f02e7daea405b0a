"""Score a stream of queries concurrently, in order, with bounded memory."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from qwen3_reranker import event_loop
from qwen3_reranker.ranking import Hit, ScoringJob
from qwen3_reranker.scorer import Scores

__all__ = ["Asked", "Begin", "ain_order", "counted", "in_order"]

T = TypeVar("T")
F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")
F_co = TypeVar("F_co", covariant=True)

Asked = tuple[str, ScoringJob]
"""A query, and what there is to score for it."""

Found = Scores | Exception
Prepare = Callable[[T], Asked]
Begin = Callable[[str, ScoringJob], Future[Found]]
Finish = Callable[[ScoringJob, Found], list[Hit]]

# Documents: enough to keep an engine's batches full, little enough to hold for any number of queries.
_LIMIT = 2048


def in_order(
    items: Iterable[T], prepare: Prepare[T], begin: Begin, finish: Finish
) -> Iterator[list[Hit]]:
    """
    Yield the hits of every item, in order, each as soon as it is ready.

    Items are requested as the window has room for them. An iterable other than a list or tuple
    may block, so it is iterated in a thread of its own. If the consumer stops, or an item fails,
    everything in the window is cancelled.

    Args:
        items: One item a query.
        prepare: Turns an item into a query and its work; called where `items` is iterated.
        begin: Starts scoring.
        finish: Ranks what scoring returned.
    """
    event_loop.require_waitable()
    source: _Source[Future[Any]]
    listed = isinstance(items, (list, tuple))
    source = _Ready(Future, items, prepare) if listed else _Thread(items, prepare)
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


async def ain_order(
    items: Iterable[T] | AsyncIterable[T], prepare: Prepare[T], begin: Begin, finish: Finish
) -> AsyncIterator[list[Hit]]:
    """Async version of `in_order`; an async iterable is iterated in a task of its own."""

    def abegin(query: str, job: ScoringJob) -> asyncio.Future[Found]:
        return asyncio.wrap_future(begin(query, job))

    source: _Source[asyncio.Future[Any]]
    if isinstance(items, AsyncIterable):
        source = _Task(items, prepare)
    elif isinstance(items, (list, tuple)):
        source = _Ready(asyncio.get_running_loop().create_future, items, prepare)
    else:
        source = _AwaitedThread(items, prepare)
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


@contextmanager
def counted(asked: Sequence[Asked], finish: Finish, *, shown: bool) -> Iterator[Finish]:
    """Yield a `finish` that moves a bar, which counts documents on standard error."""
    if not shown:
        yield finish
        return
    from tqdm import tqdm

    with tqdm(total=sum(len(job.documents) for _, job in asked), unit="doc") as bar:

        def counting(job: ScoringJob, found: Found) -> list[Hit]:
            bar.update(len(job.documents))
            return finish(job, found)

        yield counting


class _Window(Generic[F]):
    """
    The queries that are being scored, oldest first, and the next one, as soon as it is known.

    Knows nothing of waiting, so that the sync and the async generator share it: each calls
    `advance` until `unfinished` is false, and waits for one of `awaited` when it returns None.
    """

    def __init__(
        self, pull: Callable[[], F], begin: Callable[[str, ScoringJob], F], finish: Finish
    ) -> None:
        self._pull, self._begin, self._finish = pull, begin, finish
        self._size = 0
        self._queue: deque[tuple[ScoringJob, F]] = deque()
        # Of the next query; None after the last.
        self._next: F | None = pull()

    @property
    def unfinished(self) -> bool:
        """Whether there are results to come."""
        return self._next is not None or bool(self._queue)

    def advance(self) -> list[Hit] | None:
        """Admit the next query if it fits, then return the oldest one's hits if they are ready."""
        if self._next is not None and self._next.done() and self._fits(self._next):
            asked = self._next.result()
            self._next = None
            if asked is not None:
                query, job = asked
                self._queue.append((job, self._begin(query, job)))
                self._size += _size(job)
                self._next = self._pull()
        if not self._queue or not self._queue[0][1].done():
            return None
        job, found = self._queue.popleft()
        self._size -= _size(job)
        return self._finish(job, found.result())

    @property
    def awaited(self) -> list[F]:
        """What may let `advance` go on; none at all after the last hits."""
        awaited = [found for _, found in self._queue][:1]
        if self._next is not None and (not self._next.done() or self._fits(self._next)):
            awaited.append(self._next)
        return awaited

    def cancel(self) -> None:
        """Cancel everything that is not done."""
        for future in [*(found for _, found in self._queue), self._next]:
            if future is None:
                continue
            future.cancel()
            if future.done() and not future.cancelled():
                future.exception()  # retrieved, or asyncio complains

    def _fits(self, future: F) -> bool:
        """Return whether a query has room; one larger than the window has when that is empty."""
        if not self._queue:
            return True
        if future.exception() is not None:
            return False  # raised in its turn, after the hits of those before it
        asked = future.result()
        return asked is None or self._size + _size(asked[1]) <= _LIMIT


def _size(job: ScoringJob) -> int:
    # Documents that need no score take memory too, and so does a query without any.
    return max(1, len(job.documents))


class _Source(Protocol[F_co]):
    """Items that are prepared one at a time, on demand."""

    def pull(self) -> F_co:
        """Return a future of the next query and its work; of None after the last."""

    def stop(self) -> None:
        """Request nothing more; does not wait for an item that is being produced."""


class _Ready(Generic[F]):
    """Items that are in memory: their futures are done."""

    def __init__(self, future: Callable[[], F], items: Iterable[T], prepare: Prepare[T]) -> None:
        self._future = future
        self._items = map(prepare, items)

    def pull(self) -> F:
        future = self._future()
        _resolve(future, self._items)
        return future

    def stop(self) -> None:
        return


class _Thread:
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
        future: Future[Any] = Future()
        self._requests.put(future)
        return future

    def stop(self) -> None:
        self._requests.put(None)


class _AwaitedThread:
    """A `_Thread` whose futures can be awaited."""

    def __init__(self, items: Iterable[T], prepare: Prepare[T]) -> None:
        self._thread = _Thread(items, prepare)

    def pull(self) -> asyncio.Future[Any]:
        return asyncio.wrap_future(self._thread.pull())

    def stop(self) -> None:
        self._thread.stop()


class _Task:
    """Items of an async iterator, iterated in one task, as its context managers may require."""

    def __init__(self, items: AsyncIterable[T], prepare: Prepare[T]) -> None:
        self._requests: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        self._task = asyncio.create_task(_aiterate(items, prepare, self._requests))

    def pull(self) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._requests.put_nowait(future)
        return future

    def stop(self) -> None:
        self._task.cancel()


def _iterate(
    items: Iterable[T], prepare: Prepare[T], requests: SimpleQueue[Future[Any] | None]
) -> None:
    iterator = _prepared(items, prepare)
    while (future := requests.get()) is not None:
        if future.set_running_or_notify_cancel():
            _resolve(future, iterator)


def _prepared(items: Iterable[T], prepare: Prepare[T]) -> Iterator[Asked]:
    """Yield the prepared items; an error of iter() is raised for the first of them, unlike map's."""
    for item in items:
        yield prepare(item)


async def _aiterate(
    items: AsyncIterable[T], prepare: Prepare[T], requests: asyncio.Queue[asyncio.Future[Any]]
) -> None:
    iterator: AsyncIterator[T] | None = None
    while True:
        future = await requests.get()
        try:
            if iterator is None:  # only now, so that an error of aiter() is the first item's
                iterator = aiter(items)
            asked = prepare(await anext(iterator))
        except StopAsyncIteration:
            future.set_result(None)
        except asyncio.CancelledError:  # of `stop`, or raised by the iterator itself
            future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # raised where the hits are awaited
            future.set_exception(error)
        else:
            future.set_result(asked)


def _resolve(future: Future[Any] | asyncio.Future[Any], iterator: Iterator[Asked]) -> None:
    """Set a future to the iterator's next item, to None after the last, or to its error."""
    try:
        asked = next(iterator, None)
    except BaseException as error:  # noqa: BLE001  # raised where the hits are awaited
        future.set_exception(error)
    else:
        future.set_result(asked)
