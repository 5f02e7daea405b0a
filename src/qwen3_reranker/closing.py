"""Context managers that close an object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

__all__ = ["ClosesAtExit"]


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
