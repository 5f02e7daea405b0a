"""What became of the calls of a run: how many were answered, wrong, lost or doubled."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from reliability.cases import TOLERANCE, Case

__all__ = ["Answer", "Mark", "RefusedError", "Tally"]

Answer = Sequence[tuple[int, float]]
"""The index and P(yes) of each document, in any order."""

# How many examples of each failure are kept.
_EXAMPLES = 5


class RefusedError(Exception):
    """A call was refused in so many words, such as by a full queue. That is not a lost answer."""


class Mark:
    """
    A moment, after which an answer is awaited.

    Attributes:
        moment: The moment, in seconds of `time.monotonic()`.
        seconds: The seconds from then to the first answer of a call that began later. None if there
            has been no such answer yet.
    """

    def __init__(self) -> None:
        self.moment = time.monotonic()
        self.seconds: float | None = None


class Tally:
    """
    Compare answers with the reference, and count them. Any thread may call every method.

    A call takes four bytes of memory, so that a long run can measure the memory of what it tests.

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
        self._began = self._last_answer = time.monotonic()
        self._longest_stall = 0.0
        self._seconds = array("f")
        self._marks: list[Mark] = []

    def answered(self, case: Case, answer: Answer, seconds: float) -> None:
        """
        Count a call that got an answer.

        Args:
            case: What was asked.
            answer: The answer.
            seconds: How long it took.
        """
        found, reason = self._judge(case, answer)
        now = time.monotonic()
        with self._lock:
            self.counts["calls"] += 1
            self.counts["answered"] += 1
            self._seconds.append(seconds)
            self._longest_stall = max(self._longest_stall, now - self._last_answer)
            self._last_answer = max(self._last_answer, now)
            for mark in [mark for mark in self._marks if now - seconds >= mark.moment]:
                mark.seconds = now - mark.moment
                self._marks.remove(mark)
            if found is not None:
                self._count(found, f"case {case.number}: {reason}")

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
            self._count(found, f"case {case.number}: {type(error).__name__}: {error}"[:300])

    def canceled(self) -> None:
        """Count a call that its caller has given up."""
        with self._lock:
            self.counts["calls"] += 1
            self.counts["canceled"] += 1

    def mark(self) -> Mark:
        """Return a mark of this moment, which learns when a call that begins now is answered."""
        with self._lock:
            self._marks.append(Mark())
            return self._marks[-1]

    def figures(self) -> dict[str, Any]:
        """Return the counts, the seconds, and the longest time without any answer."""
        with self._lock:
            seconds, now = sorted(self._seconds), time.monotonic()
            return {
                **self.counts,
                "seconds": round(now - self._began, 1),
                "longest_stall": round(max(self._longest_stall, now - self._last_answer), 3),
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
        rights = case.scores
        # Written so that NaN is wrong.
        wrong = {i: score for i, score in answer if not self._near(score, rights[i])}
        # The scores of a case are so far apart that a score tells whose it is.
        copied = [
            i
            for i, score in wrong.items()
            if any(self._near(score, right) for j, right in enumerate(rights) if j not in wrong)
        ]
        if copied:
            return "doubled", f"documents {copied} have scores that others have, too"
        if wrong:
            return "wrong", f"the scores are {wrong} instead of {rights}"
        return None, ""

    def _near(self, score: float, right: float) -> bool:
        return abs(score - right) <= self._tolerance

    def _count(self, found: str, example: str) -> None:
        self.counts[found] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{found}: {example}")


def _quantile(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
