"""The calls of a soak test: each is compared with the reference, timed, and counted."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from qwen3_reranker import Hit
from qwen3_reranker.errors import RerankerError

from reliability.cases import Case
from reliability.tally import Mark, Tally

__all__ = ["ALL", "Calls", "Recorded", "Window"]

ALL = "all"
"""The name of the tally of all calls."""

# Of two faults that a call meets, each may have spoiled the answer of another server.
_SEVERAL_SERVERS = frozenset({"servers", "gateway"})


@dataclass
class Window:
    """
    The time in which a fault may make calls fail.

    Args:
        fault: The name of the fault.
        names: The rerankers whose calls may fail.
        began: When the fault began, in seconds of `time.monotonic()`.
        ended: When everything had recovered. None until then.
    """

    fault: str
    names: frozenset[str]
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def meets(self, began: float) -> bool:
        """Return whether a call that began at a moment, and has not ended, meets the fault."""
        return self.ended is None or began <= self.ended


class _Calls(Tally):
    """The calls of one reranker. Errors of the package are counted apart from lost answers."""

    def __init__(self) -> None:
        super().__init__()
        self.counts.update({"unexpected": 0, "late": 0})
        self.errors: Counter[str] = Counter()
        self.messages: dict[str, str] = {}

    def raised(self, error: RerankerError, *, excused: bool, fault: str) -> None:
        """Count a call that raised an error of the package during a fault, or after it."""
        kind, message = type(error).__name__, str(error)[:300]
        with self._lock:
            self.counts["calls"] += 1
            self.errors[kind] += 1
            self.messages.setdefault(kind, message)
            if not excused:
                self._count("unexpected", f"{kind} after '{fault}' had begun: {message}")

    def late(self, seconds: float) -> None:
        """Count a call that took longer than promised, besides how it ended."""
        with self._lock:
            self._count("late", f"a call took {seconds:.1f} s")

    def endless(self, seconds: float) -> None:
        """Count a call that has not ended."""
        with self._lock:
            self.counts["calls"] += 1
            self._count("lost", f"a call did not end in {seconds:.0f} s")

    def disordered(self, case: Case, reason: str) -> None:
        """Count an answer that is wrong though its scores may be right, besides its call."""
        with self._lock:
            self._count("wrong", f"case {case.number}: {reason}")

    def figures(self) -> dict[str, Any]:
        """Return the figures of `Tally`, with the errors by type and the first message of each."""
        figures = super().figures() | {"errors": dict(self.errors), "messages": self.messages}
        del figures["refused"]  # nothing is: what a full gateway refuses is an error
        return figures


class Calls:
    """
    The calls of a soak test, by reranker. Any thread may use it.

    Args:
        limits: The seconds that a call of each reranker may take.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits = dict(limits)
        self._tallies = {name: _Calls() for name in (*limits, ALL)}
        self._windows: list[Window] = []
        self._lock = threading.Lock()
        self._begun = 0
        self._in_flight: dict[int, tuple[float, str]] = {}

    def excuse(self, fault: str, names: frozenset[str]) -> Window:
        """
        Let a fault make calls of some rerankers fail until the window that is returned ends.

        Calls to several servers may also fail if they meet two faults.
        """
        window = Window(fault, names)
        with self._lock:
            self._windows.append(window)
        return window

    def mark(self, name: str) -> Mark:
        """Return a mark of this moment, which learns when a reranker answers a new call."""
        return self._tallies[name].mark()

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each reranker, and of all."""
        return {name: tally.figures() for name, tally in self._tallies.items()}

    def give_up(self) -> None:
        """Count the calls as lost that have not ended."""
        with self._lock:
            lost, self._in_flight = self._in_flight, {}
        for began, name in lost.values():
            for tally in (self._tallies[name], self._tallies[ALL]):
                tally.endless(time.monotonic() - began)

    def uncounted(self) -> int:
        """Return how many of the calls that began have not been counted."""
        parts = sum(tally.counts["calls"] for name, tally in self._tallies.items() if name != ALL)
        return self._begun - min(parts, self._tallies[ALL].counts["calls"])

    def begin(self, name: str) -> int:
        """Record that a call begins, and return its number."""
        with self._lock:
            self._begun += 1
            number = self._begun
            self._in_flight[number] = (time.monotonic(), name)
        return number

    def end(self, number: int, recorded: Recorded, error: BaseException | None) -> None:
        """Record how a call ended."""
        with self._lock:
            if number not in self._in_flight:
                return  # it was given up
            began, name = self._in_flight.pop(number)
            met = [window for window in self._windows if window.meets(began)]
            several = name in _SEVERAL_SERVERS and len(met) > 1
            excused = several or any(name in window.names for window in met)
            last = self._windows[-1].fault if self._windows else "nothing"
        case, seconds = recorded.case, time.monotonic() - began
        for tally in (self._tallies[name], self._tallies[ALL]):
            if seconds > self.limits[name]:
                tally.late(seconds)
            if error is None:
                tally.answered(case, recorded.answer, seconds)
                if recorded.reason:
                    tally.disordered(case, recorded.reason)
            elif isinstance(error, RerankerError):
                tally.raised(error, excused=excused, fault=last)
            elif isinstance(error, asyncio.CancelledError) and recorded.canceled:
                tally.canceled()
            else:
                tally.failed(case, error)


class Recorded:
    """
    A context manager that records how a call ends, and suppresses its error.

    Args:
        calls: Where it is recorded.
        name: The reranker that is called.
        case: What is asked.

    Attributes:
        canceled: Whether the caller has canceled the call. Set by the caller.
        answer: The index and the score of each document.
        reason: Why the answer is wrong though its scores may be right; "" if it is not.
    """

    def __init__(self, calls: Calls, name: str, case: Case) -> None:
        self.case = case
        self.canceled = False
        self.answer: list[tuple[int, float]] = []
        self.reason = ""
        self._calls = calls
        self._name = name

    def ranked(self, hits: Sequence[Hit]) -> None:
        """Take the hits of `rerank()`."""
        self.answer = [(hit.index, hit.score) for hit in hits]
        texts = dict(enumerate(self.case.documents))
        if strange := [hit.index for hit in hits if hit.text != texts.get(hit.index)]:
            self.reason = f"hits {strange} have the texts of other documents"
        elif any(a.score < b.score for a, b in itertools.pairwise(hits)):
            self.reason = f"the hits are out of order: {self.answer}"

    def scored(self, scores: Sequence[float]) -> None:
        """Take the scores of `score()`."""
        self.answer = list(enumerate(scores))

    def __enter__(self) -> Self:
        self._number = self._calls.begin(self._name)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        self._calls.end(self._number, self, error)
        return True
