"""Closing at the end of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

__all__ = ["ClosesAtExit"]


class ClosesAtExit(ABC):
    """A mixin for classes with `close()` and `aclose()`: leaving the block closes the object."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held."""

    @abstractmethod
    async def aclose(self) -> None:
        """Async version of `close()`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
