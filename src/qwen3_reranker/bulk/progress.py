"""The progress of a run over files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

__all__ = ["BulkProgress", "Tracker"]


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """
    How far a run is.

    Attributes:
        rows: The rows that are done, including those of earlier runs.
        total: The rows of the input. Blank lines count as rows.
        documents: The documents that this run has scored.
        seconds: The time since this run began to score.
        seconds_left: The time that the remaining rows will take at the rate of this run so far.
            None until the first rows are done.
    """

    rows: int
    total: int
    documents: int
    seconds: float
    seconds_left: float | None

    @property
    def documents_per_second(self) -> float:
        """The documents that this run has scored per second."""
        return self.documents / self.seconds if self.seconds else 0.0


class Tracker:
    """
    Count what is done, from any thread.

    Args:
        total: The rows of the input.
        done: The rows that earlier runs have completed.
        report: Called with the progress when it changes.
    """

    def __init__(self, total: int, done: int, report: Callable[[BulkProgress], None]) -> None:
        self._total, self._earlier, self._report = total, done, report
        self._rows = self._documents = 0
        self._started = perf_counter()
        self._lock = threading.Lock()

    @property
    def documents(self) -> int:
        """The documents that have been counted."""
        return self._documents

    def add(self, rows: int, documents: int) -> None:
        """Count rows and documents, and report the progress."""
        with self._lock:
            self._rows += rows
            self._documents += documents
            seconds = perf_counter() - self._started
            done = self._earlier + self._rows
            left = seconds / self._rows * (self._total - done) if self._rows else None
            self._report(BulkProgress(done, self._total, self._documents, seconds, left))
