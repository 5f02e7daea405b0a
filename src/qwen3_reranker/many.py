"""Many queries at once, finished in the order given: enough under way, and never all of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Self, TypeVar

from qwen3_reranker.ranking import Hit, Work
from qwen3_reranker.scorers.base import Scores

__all__ = ["Asked", "ain_order", "counted", "each", "in_order"]

T = TypeVar("T")

Asked = tuple[str, Work]
"""A query, and what there is to score for it."""

Found = Scores | Exception
Begin = Callable[[str, Work], Future[Found]]
Finish = Callable[[Work, Found], list[Hit]]

# Documents: enough to keep an engine's batches full, little enough to hold for any number of queries.
_LIMIT = 2048


def in_order(asked: Iterable[Asked], begin: Begin, finish: Finish) -> Iterator[list[Hit]]:
    """
    Yield the hits of every query, in their order, and take new ones as there is room for them.

    Where the consumer stops, or a query fails, what is under way is cancelled.
    """
    with _Window(begin, finish) as window:
        for query, work in asked:
            while window.full(work):
                yield window.pop(window.first.result())
            window.add(query, work)
        while window:
            yield window.pop(window.first.result())


async def ain_order(
    asked: Iterable[Asked] | AsyncIterable[Asked], begin: Begin, finish: Finish
) -> AsyncIterator[list[Hit]]:
    """Do as `in_order`."""
    with _Window(begin, finish) as window:
        async for query, work in each(asked):
            while window.full(work):
                yield window.pop(await asyncio.wrap_future(window.first))
            window.add(query, work)
        while window:
            yield window.pop(await asyncio.wrap_future(window.first))


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the items, whichever kind of iterable holds them."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


@contextmanager
def counted(asked: Sequence[Asked], finish: Finish, *, shown: bool) -> Iterator[Finish]:
    """Yield a `finish` that moves a bar, which counts documents on standard error."""
    if not shown:
        yield finish
        return
    from tqdm import tqdm

    with tqdm(total=sum(len(work.documents) for _, work in asked), unit="doc") as bar:

        def counting(work: Work, found: Found) -> list[Hit]:
            bar.update(len(work.documents))
            return finish(work, found)

        yield counting


class _Window:
    """A queue of what is under way; leaving the `with` cancels what is still in it."""

    def __init__(self, begin: Begin, finish: Finish) -> None:
        self._begin, self._finish = begin, finish
        self._size = 0
        self._queue: deque[tuple[Work, Future[Found]]] = deque()

    def full(self, work: Work) -> bool:
        """Return whether the first has to end before this begins; what is too large goes alone."""
        return bool(self._queue) and self._size + len(work.texts) > _LIMIT

    def add(self, query: str, work: Work) -> None:
        """Begin it."""
        self._queue.append((work, self._begin(query, work)))
        self._size += len(work.texts)

    @property
    def first(self) -> Future[Found]:
        """What has been here longest will give."""
        return self._queue[0][1]

    def pop(self, found: Found) -> list[Hit]:
        """Take out what has been here longest, and rank it."""
        work, _ = self._queue.popleft()
        self._size -= len(work.texts)
        return self._finish(work, found)

    def __len__(self) -> int:
        return len(self._queue)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, future in self._queue:
            future.cancel()
