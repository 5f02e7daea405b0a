"""The memory of the process that calls, during a soak test."""

from __future__ import annotations

import ctypes
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

_INTERVAL = 10.0
_MIB = 2**20


@dataclass(frozen=True)
class _Sample:
    """The memory at a moment: its size in bytes, and the number of blocks that Python has."""

    at: float
    size: int
    blocks: int


class Memory:
    """
    Sample the memory that this process uses.

    The C library keeps much of the memory that was freed, above all with many threads, which looks
    like a leak and is none. So it has to give back what it can before each sample.

    What pools and caches take at the beginning is no leak, either. So growth is measured from the
    end of the warm-up, which is the first third of a run.
    """

    def __init__(self) -> None:
        self._samples: list[_Sample] = []

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Sample during a `with` block."""
        stop, process, library = threading.Event(), psutil.Process(), ctypes.CDLL(None)

        def sample() -> None:
            while not stop.wait(_INTERVAL):
                library.malloc_trim(0)
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
        Return the size at the end in MiB, the growth after the warm-up, and a size every minute.

        The growth is that of a line through the samples: of the size in MiB, in all and per minute,
        and of the number of Python's blocks per minute. It is None if there are too few samples.
        """
        warm = self._samples[len(self._samples) // 3 :]
        growth: list[float | None] = [None, None, None]
        if len(warm) > 1:
            times = [sample.at / 60 for sample in warm]
            sizes, blocks = [s.size / _MIB for s in warm], [s.blocks for s in warm]
            size, block = (
                statistics.linear_regression(times, values).slope for values in (sizes, blocks)
            )
            growth = [size * (times[-1] - times[0]), size, block]
        names = ("grown_mib", "mib_per_minute", "blocks_per_minute")
        each_minute = self._samples[:: round(60 / _INTERVAL)]
        return {
            "mib": round(self._samples[-1].size / _MIB) if self._samples else None,
            **{n: None if g is None else round(g, 2) for n, g in zip(names, growth, strict=True)},
            "mib_by_minute": [round(sample.size / _MIB) for sample in each_minute],
        }
