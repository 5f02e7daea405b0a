"""Context managers that close an object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

__all__ = ["ClosesAtExit", "closed_after"]

C = TypeVar("C", bound="ClosesAtExit")


class ClosesAtExit(ABC):
    """A mixin that closes an object at the end of a `with` or an `async with` block."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release all resources, without blocking the event loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@contextmanager
def closed_after(closable: C) -> Iterator[C]:
    """
    Yield an object and close it, but not on Ctrl-C, which would wait for an engine to start.

    What is not closed then is released by the garbage collector, or when the process ends.
    """
    try:
        yield closable
    except KeyboardInterrupt:
        raise
    except BaseException:
        closable.close()
        raise
    closable.close()
