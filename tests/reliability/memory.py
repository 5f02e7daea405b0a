"""The memory of the process that calls, during a soak test."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

__all__ = ["Memory"]

_INTERVAL = 5.0
_MIB = 2**20


@dataclass(frozen=True)
class _Sample:
    """The memory at a moment: its size in bytes, and the number of blocks that Python has."""

    at: float
    size: int
    blocks: int


class Memory:
    """
    Sample the memory of this process.

    What caches, pools and the allocator take at the beginning says nothing about a leak. So growth
    is measured from the end of the warm-up, which is the first third of a run.
    """

    def __init__(self) -> None:
        self._samples: list[_Sample] = []

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample during a `with` block."""
        stop, process = threading.Event(), psutil.Process()

        def sample() -> None:
            while not stop.wait(_INTERVAL):
                size = process.memory_info().rss
                self._samples.append(_Sample(time.monotonic(), size, sys.getallocatedblocks()))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def figures(self) -> dict[str, Any]:
        """
        Return the size at the end in MiB, and the growth after the warm-up.

        The growth is the slope of a line through the samples: of the size in MiB per minute, and of
        the number of Python's blocks per minute. It is None if there are too few samples.
        """
        warm = self._samples[len(self._samples) // 3 :]
        slopes: list[float | None] = [None, None]
        if len(warm) > 1:
            times = [sample.at / 60 for sample in warm]
            sizes, blocks = [s.size / _MIB for s in warm], [s.blocks for s in warm]
            slopes = [
                round(statistics.linear_regression(times, values).slope, 2)
                for values in (sizes, blocks)
            ]
        return {
            "mib": round(self._samples[-1].size / _MIB) if self._samples else None,
            "mib_per_minute": slopes[0],
            "blocks_per_minute": slopes[1],
        }
