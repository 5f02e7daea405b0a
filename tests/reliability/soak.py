"""
Many callers, while servers, engines and connections fail.

    make soak                          # or: python -m reliability.soak [--minutes 10]

Threads and event loops call an embedded engine (with and without a cache), three servers behind
faulty proxies, and a gateway before the same servers. The faults of `reliability.faults` follow
each other. Every answer is compared with the model card's recipe in transformers. The figures are
written to tests/benchmarks/results/soak.json and to docs/explanation/reliability.md.

The exit code is 1 if an answer was wrong, lost or doubled, an error was not one of the package's,
or something did not recover.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil

from qwen3_reranker import Reranker, RerankerWarning
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.errors import RerankerError

from benchmarks import record
from reliability.backends import Backends, opened
from reliability.cases import Case, make_cases
from reliability.faults import Fault, Forks, all_faults
from reliability.page import PAGE, updated
from reliability.tally import Tally
from support.servers.processes import MAX_LENGTH

__all__ = ["Soak"]

_RESULT = "soak"
# The share of the calls of each reranker.
_SHARES = {"engine": 0.3, "cached": 0.1, "servers": 0.4, "gateway": 0.2}
# The share of the calls on event loops that are canceled unless they end before, and after at most
# how many seconds.
_CANCELED, _CANCEL_WITHIN = 0.6, 2.0
# The event loops on which half of the callers run.
_LOOPS = 4
# The seconds after which a call that has not ended is lost.
_ENDLESS = 240.0
# The seconds that a recovery may take; an engine that starts on a busy machine takes half of them.
_RECOVERY = 120.0
_MIB = 2**20


class Calls(Tally):
    """The calls of one reranker. Errors of the package are counted apart from lost answers."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()
        self.messages: dict[str, str] = {}
        self._spans: list[tuple[float, float]] = []

    def answered(self, case: Case, answer: Sequence[tuple[int, float]], seconds: float) -> None:
        """Count a call that got an answer."""
        super().answered(case, answer, seconds)
        now = time.monotonic()
        with self._lock:
            self._spans.append((now - seconds, now))

    def first_answer_after(self, moment: float) -> float | None:
        """Return the seconds from a moment to the first answer of a call that began after it."""
        with self._lock:
            return min((e - moment for began, e in self._spans if began >= moment), default=None)

    def failed(self, case: Case, error: BaseException) -> None:
        """Count a call that failed: as an error of the package, or as lost."""
        if not isinstance(error, RerankerError):
            super().failed(case, error)
            return
        with self._lock:
            self.counts["calls"] += 1
            self.errors[type(error).__name__] += 1
            self.messages.setdefault(type(error).__name__, f"{error}".partition("\n")[0][:300])

    def figures(self) -> dict[str, Any]:
        """Return the figures of `Tally`, with the errors by type and the first message of each."""
        return super().figures() | {"errors": dict(self.errors), "messages": self.messages}


class Soak:
    """
    A soak test.

    Args:
        backends: What is called.
        cases: What is asked.
        callers: How many calls are in flight. Half of the callers are threads.
        unit: How long a fault lasts, in seconds, and half of the time between two.

    Attributes:
        calls: The calls of each reranker.
        all: All calls together.
        events: What the faults did.
        forks: What became of the forked children.
    """

    def __init__(
        self, backends: Backends, cases: Sequence[Case], *, callers: int, unit: float
    ) -> None:
        self.calls = {name: Calls() for name in backends.rerankers}
        self.all = Calls()
        self.events: list[dict[str, Any]] = []
        self.forks = Forks()
        self._backends = backends
        self._cases = cases
        self._callers = callers
        self._unit = unit
        self._stop = threading.Event()
        self._in_flight: dict[int, tuple[float, str]] = {}
        self._numbers = itertools.count()
        self._memory: list[tuple[float, int]] = []

    def run(self, seconds: float, faults: Sequence[Fault]) -> None:
        """
        Call, while one fault follows the other.

        Args:
            seconds: For how long. The first round of faults is not ended early.
            faults: The faults of a round.
        """
        began = time.monotonic()
        threads = [self._start(self._thread) for _ in range(self._callers // 2)]
        loops = min(_LOOPS, self._callers - len(threads))
        each = (self._callers - len(threads)) // max(1, loops)
        threads += [self._start(lambda: asyncio.run(self._loop(each))) for _ in range(loops)]
        threads.append(self._start(self._sample_memory))
        with self._backends.watched():
            for fault in itertools.cycle(faults):
                if len(self.events) >= len(faults) and time.monotonic() - began > seconds:
                    break
                self._meet(fault)
                self._stop.wait(2 * self._unit)
            self._stop.set()
            deadline = time.monotonic() + _ENDLESS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def figures(self) -> dict[str, Any]:
        """Return the figures."""
        endless = [f"{name} for {time.monotonic() - at:.0f} s" for at, name in self._hanging()]
        return {
            "all": self.all.figures(),
            **{name: calls.figures() for name, calls in self.calls.items()},
            "endless": endless,
            "faults": self.events,
            "forks": vars(self.forks),
            "wire_faults": dict(sum((p.met for p in self._backends.proxies), Counter())),
            "memory_mib": round(self._memory[-1][1] / _MIB) if self._memory else None,
            "memory_mib_per_minute": self._memory_slope(),
        }

    def problems(self) -> list[str]:
        """Return what broke a promise, in words."""
        figures = self.all.figures()
        kinds = [kind for kind in ("wrong", "lost", "doubled", "refused") if figures[kind]]
        found = [f"{figures[kind]} {kind}" for kind in kinds]
        found += figures["examples"]
        found += [f"{name} did not end" for _, name in self._hanging()]
        found += [f"{e['fault']}: no recovery" for e in self.events if e["recovered"] is None]
        return found + [f"forked child: {wrong}" for wrong in self.forks.wrong]

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _hanging(self) -> list[tuple[float, str]]:
        return list(self._in_flight.values()) if self._stop.is_set() else []

    def _meet(self, fault: Fault) -> None:
        """Inject a fault, and wait until what it hit has recovered."""
        began = time.monotonic()
        with fault.inject() as target:
            self._stop.wait(fault.units * self._unit)
        ended = time.monotonic()
        recovered = None
        while recovered is None and time.monotonic() < ended + _RECOVERY:
            time.sleep(0.1)
            if target in self.calls:
                recovered = self.calls[target].first_answer_after(ended)
            else:
                recovered = self._backends.first_answer_after(target, ended)
        self.events.append(
            {
                "fault": fault.name,
                "seconds": round(ended - began, 1),
                "recovered": None if recovered is None else round(recovered, 2),
            }
        )
        print(f"{fault.name:<40}{ended - began:6.1f} s, recovered after {recovered}", flush=True)

    def _choose(self) -> tuple[str, Case]:
        [name] = random.choices(list(_SHARES), list(_SHARES.values()))
        return name, random.choice(self._cases)

    def _thread(self) -> None:
        while not self._stop.is_set():
            name, case = self._choose()
            reranker, documents = self._backends.rerankers[name], case.documents
            with _Recorded(self, name, case) as recorded:
                if random.random() < 0.5:
                    recorded.ranked(reranker.rerank(case.query, documents))
                else:
                    recorded.scored(reranker.score(case.query, documents))

    async def _loop(self, callers: int) -> None:
        await asyncio.gather(*(self._coroutine() for _ in range(callers)))

    async def _coroutine(self) -> None:
        while not self._stop.is_set():
            name, case = self._choose()
            with _Recorded(self, name, case) as recorded:
                call = asyncio.create_task(self._call(recorded, self._backends.rerankers[name]))
                if random.random() < _CANCELED:
                    await asyncio.wait({call}, timeout=random.uniform(0, _CANCEL_WITHIN))
                    call.cancel()
                await call

    async def _call(self, recorded: _Recorded, reranker: Reranker) -> None:
        case = recorded.case
        if random.random() < 0.5:
            recorded.ranked(await reranker.arerank(case.query, case.documents))
        else:
            recorded.scored(await reranker.ascore(case.query, case.documents))

    def _sample_memory(self) -> None:
        process, began = psutil.Process(), time.monotonic()
        while not self._stop.wait(1):
            self._memory.append((time.monotonic() - began, process.memory_info().rss))

    def _memory_slope(self) -> float | None:
        """Return the growth of this process in MiB per minute, over the last two thirds."""
        samples = self._memory[len(self._memory) // 3 :]
        if len(samples) < 2:
            return None
        times, sizes = zip(*samples, strict=True)
        per_second = statistics.linear_regression(times, sizes).slope
        return round(60 * per_second / _MIB, 2)


class _Recorded:
    """Records how a call ends: with an answer, an error or a cancellation."""

    def __init__(self, soak: Soak, name: str, case: Case) -> None:
        self.case = case
        self._soak = soak
        self._name = name
        self._tallies = (soak.calls[name], soak.all)
        self._answer: list[tuple[int, float]] = []

    def ranked(self, hits: Sequence[Any]) -> None:
        """Take the hits of `rerank()`."""
        self._answer = [(hit.index, hit.score) for hit in hits]

    def scored(self, scores: Sequence[float]) -> None:
        """Take the scores of `score()`."""
        self._answer = list(enumerate(scores))

    def __enter__(self) -> Self:
        self._number, self._began = next(self._soak._numbers), time.monotonic()
        self._soak._in_flight[self._number] = (self._began, self._name)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        del self._soak._in_flight[self._number]
        for tally in self._tallies:
            if error is None:
                tally.answered(self.case, self._answer, time.monotonic() - self._began)
            elif isinstance(error, asyncio.CancelledError):
                tally.canceled()
            else:
                tally.failed(self.case, error)
        return True


def main() -> None:
    """Run the test, print the figures, and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--unit", type=float, default=5, help="seconds of a fault")
    parser.add_argument("--light", action="store_true", help="use two llama.cpp servers")
    parser.add_argument("--save", default=_RESULT, help="the name of the JSON file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RerankerWarning)
    with recipe() as reference:
        cases = make_cases(reference)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        backends = stack.enter_context(opened(Path(folder), light=arguments.light))
        soak = Soak(backends, cases, callers=arguments.callers, unit=arguments.unit)
        soak.run(60 * arguments.minutes, all_faults(backends, cases, soak.forks))
        figures, problems = soak.figures(), soak.problems()
    settings = {name: getattr(arguments, name) for name in ("minutes", "callers", "unit", "light")}
    path = record.save(arguments.save, {**settings, **figures})
    if arguments.save == _RESULT:
        PAGE.write_text(updated(PAGE.read_text("utf-8"), record.load(_RESULT)), "utf-8")
    for name in ("all", *backends.rerankers):
        print(f"{name}: {figures[name]}")
    print(f"memory: {figures['memory_mib']} MiB, {figures['memory_mib_per_minute']} MiB per minute")
    print(f"written to {path}")
    print("\n".join(problems) or "no answer was wrong, lost or doubled, and everything recovered")
    sys.exit(bool(problems))


def recipe() -> Reranker:
    """Return the model card's recipe in transformers, with the servers' limit."""
    return Reranker(scorer=TransformersScorer("demo", dtype="float32", max_length=MAX_LENGTH))


if __name__ == "__main__":
    main()
