"""What became of the calls of a run: how many were answered, wrong, lost or doubled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from reliability.cases import TOLERANCE, Case

__all__ = ["RefusedError", "Tally"]

Answer = Sequence[tuple[int, float]]
"""The index and P(yes) of each document, in any order."""

# How many examples of each failure are kept.
_EXAMPLES = 5


class RefusedError(Exception):
    """A call was refused in so many words, such as by a full queue. That is not a lost answer."""


class Tally:
    """
    Compare answers with the reference, and count them. Any thread may call every method.

    Args:
        tolerance: How far a right score may be from the reference.

    Attributes:
        counts: The number of calls, and of those that were answered, wrong, lost, doubled, refused
            and canceled.
        examples: A few of the failures, in words.
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        names = ("calls", "answered", "wrong", "lost", "doubled", "refused", "canceled")
        self.counts = Counter(dict.fromkeys(names, 0))
        self.examples: list[str] = []
        self._tolerance = tolerance
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._answered_at = [self._began]
        self._seconds: list[float] = []

    def answered(self, case: Case, answer: Answer, seconds: float) -> None:
        """
        Count a call that got an answer.

        Args:
            case: What was asked.
            answer: The answer.
            seconds: How long it took.
        """
        found, reason = self._judge(case, answer)
        with self._lock:
            self.counts["calls"] += 1
            self.counts["answered"] += 1
            self._seconds.append(seconds)
            self._answered_at.append(time.monotonic())
            if found is not None:
                self.counts[found] += 1
                self._keep(f"{found}: case {case.number}: {reason}")

    def failed(self, case: Case, error: BaseException) -> None:
        """
        Count a call that got no answer: refused if it was refused in so many words, otherwise lost.

        Args:
            case: What was asked.
            error: What was raised.
        """
        found = "refused" if isinstance(error, RefusedError) else "lost"
        with self._lock:
            self.counts["calls"] += 1
            self.counts[found] += 1
            self._keep(f"{found}: case {case.number}: {type(error).__name__}: {error}"[:300])

    def canceled(self) -> None:
        """Count a call that its caller has given up."""
        with self._lock:
            self.counts["calls"] += 1
            self.counts["canceled"] += 1

    def first_answer_after(self, moment: float) -> float | None:
        """Return the seconds from a moment of `time.monotonic()` to the next answer, if any."""
        with self._lock:
            later = [at - moment for at in self._answered_at if at >= moment]
        return min(later, default=None)

    def figures(self) -> dict[str, Any]:
        """Return the counts, the seconds, and the longest time without any answer."""
        with self._lock:
            seconds = sorted(self._seconds)
            times = [*self._answered_at, time.monotonic()]
            return {
                **self.counts,
                "seconds": round(times[-1] - self._began, 1),
                "longest_stall": round(max(b - a for a, b in pairwise(times)), 3),
                "median_seconds": _quantile(seconds, 0.5),
                "p99_seconds": _quantile(seconds, 0.99),
                "longest_seconds": _quantile(seconds, 1.0),
                "examples": list(self.examples),
            }

    def _judge(self, case: Case, answer: Answer) -> tuple[str | None, str]:
        """Return what is wrong with an answer, and the reason in words; None if it is right."""
        times = Counter(index for index, _ in answer)
        expected = set(range(len(case.documents)))
        if repeated := sorted(index for index, count in times.items() if count > 1):
            return "doubled", f"documents {repeated} have several scores"
        if missing := sorted(expected - times.keys()):
            return "lost", f"documents {missing} have no score"
        if unknown := sorted(times.keys() - expected):
            return "wrong", f"there are no documents {unknown}"
        distances = {index: abs(score - case.scores[index]) for index, score in answer}
        # Written so that NaN is wrong.
        if far := {index: far for index, far in distances.items() if not far <= self._tolerance}:
            return "wrong", f"scores are off by {far}"
        return None, ""

    def _keep(self, example: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)


def _quantile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
