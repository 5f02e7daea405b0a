"""
Many callers, while servers, engines and connections fail.

    make soak                          # or: python -m reliability.soak [--minutes 10]

Threads and event loops call an embedded engine (with and without a cache), three servers behind
faulty proxies, and a gateway before the same servers. The faults of `reliability.faults` follow
each other. Every answer is compared with the model card's recipe in transformers. The figures are
written to tests/benchmarks/results/soak.json and to docs/explanation/reliability.md.

The exit code is 1 if a promise of that page was broken; the last lines say which.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qwen3_reranker import Reranker, RerankerWarning
from qwen3_reranker.embedded.reference import TransformersScorer

from benchmarks import record
from reliability.backends import Backends, opened
from reliability.calls import ALL, Calls, Recorded
from reliability.cases import Case, make_cases
from reliability.faults import Fault, Forks, all_faults
from reliability.memory import Memory
from reliability.page import PAGE, updated
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
# How many seconds a fault is prolonged until it has had an effect.
_PATIENCE = 180.0
# The seconds that a recovery may take: an engine that starts on a busy machine takes many.
_RECOVERY = 240.0
# The seconds without an answer. What a fault hits has those of the fault and of the recovery
# besides; but of everything together, and of several servers, some part always works.
_STALL = 120.0
_NEVER_STOPPED = ("servers", ALL)
# How many seconds the calls may take that are in flight at the end.
_ENDLESS = 240.0
# How much the memory may grow after the warm-up in MiB, and how long a run must be to tell, in
# minutes.
_GROWTH, _LONG = 64.0, 8.0
# What must not happen to a call.
_FAILURES = ("unexpected", "wrong", "lost", "doubled", "late")


class Soak:
    """
    A soak test.

    Args:
        backends: What is called.
        cases: What is asked.
        callers: How many calls are in flight. Half of the callers are threads.
        unit: How long most faults last, and the time between two, in seconds.

    Attributes:
        calls: The calls.
        events: What the faults did.
        forks: What became of the forked children.
    """

    def __init__(
        self, backends: Backends, cases: Sequence[Case], *, callers: int, unit: float
    ) -> None:
        self.calls = Calls(backends.limits)
        self.events: list[dict[str, Any]] = []
        self.forks = Forks()
        self._backends = backends
        self._cases = cases
        self._callers = callers
        self._unit = unit
        self._stop = threading.Event()
        self._memory = Memory()

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
        with self._memory.sampled():
            time.sleep(self._unit)
            for fault in itertools.cycle(faults):
                if len(self.events) >= len(faults) and time.monotonic() - began > seconds:
                    break
                self._meet(fault)
                time.sleep(self._unit)
        self._stop.set()
        deadline = time.monotonic() + _ENDLESS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.calls.give_up()

    def figures(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            **self.calls.figures(),
            "uncounted": self.calls.uncounted(),
            "faults": self.events,
            "forks": vars(self.forks),
            "wire_faults": dict(sum((p.met for p in self._backends.proxies), Counter())),
            "memory": self._memory.figures(),
        }

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _meet(self, fault: Fault) -> None:
        """Inject a fault until it has had an effect, and wait until what it hit has recovered."""
        window = self.calls.excuse(fault.name, fault.fails)
        began = time.monotonic()
        with fault.inject() as effect:
            time.sleep(max(fault.seconds, fault.units * self._unit))
            _wait(lambda: effect.met() >= fault.least, _PATIENCE)
        ended = time.monotonic()
        if effect.target in self._backends.rerankers:
            mark = self.calls.mark(effect.target)
            recovered = _wait(lambda: mark.seconds is not None, _RECOVERY)
        else:
            before = self._backends.requests(effect.target)
            recovered = _wait(lambda: self._backends.requests(effect.target) > before, _RECOVERY)
        window.ended = time.monotonic()
        event = {
            "fault": fault.name,
            "seconds": round(ended - began, 1),
            "met": effect.met() >= fault.least,
            "recovered": round(window.ended - ended, 1) if recovered else None,
        }
        self.events.append(event)
        failures = self.calls.figures()[ALL]
        outcome = f"met: {event['met']}, recovered: {event['recovered']}"
        print(f"{fault.name:<40}{ended - began:6.1f} s, {outcome}", end=" ")
        print({kind: failures[kind] for kind in _FAILURES if failures[kind]}, flush=True)

    def _choose(self) -> tuple[Recorded, Reranker]:
        [name] = random.choices(list(_SHARES), list(_SHARES.values()))
        recorded = Recorded(self.calls, name, random.choice(self._cases))
        return recorded, self._backends.rerankers[name]

    def _thread(self) -> None:
        while not self._stop.is_set():
            recorded, reranker = self._choose()
            query, documents = recorded.case.query, recorded.case.documents
            with recorded:
                if random.random() < 0.5:
                    recorded.ranked(reranker.rerank(query, documents))
                else:
                    recorded.scored(reranker.score(query, documents))

    async def _loop(self, callers: int) -> None:
        await asyncio.gather(*(self._coroutine() for _ in range(callers)))

    async def _coroutine(self) -> None:
        while not self._stop.is_set():
            recorded, reranker = self._choose()
            with recorded:
                call = asyncio.create_task(self._call(recorded, reranker))
                if random.random() < _CANCELED:
                    await asyncio.wait({call}, timeout=random.uniform(0, _CANCEL_WITHIN))
                    recorded.canceled = call.cancel()
                await call

    async def _call(self, recorded: Recorded, reranker: Reranker) -> None:
        query, documents = recorded.case.query, recorded.case.documents
        if random.random() < 0.5:
            recorded.ranked(await reranker.arerank(query, documents))
        else:
            recorded.scored(await reranker.ascore(query, documents))


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition is true, and return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def problems(run: dict[str, Any]) -> list[str]:
    """
    Return which promises were broken, in words.

    Args:
        run: The figures of a run.
    """
    found = []
    longest_fault = max((event["seconds"] for event in run["faults"]), default=0.0)
    for name in (*_SHARES, ALL):
        part = run[name]
        found += [f"{name}: {part[kind]} calls {kind}" for kind in _FAILURES if part[kind]]
        found += [f"{name}: no call was answered"] * (not part["answered"])
        allowed = _STALL if name in _NEVER_STOPPED else _STALL + longest_fault + _RECOVERY
        if part["longest_stall"] > allowed:
            found.append(f"{name}: no answer for {part['longest_stall']:.0f} s")
    found += run[ALL]["examples"]
    found += ["no call was canceled"] * (not run[ALL]["canceled"])
    if run["uncounted"]:
        found.append(f"{run['uncounted']} calls were not counted")
    for event in run["faults"]:
        if not event["met"]:
            found.append(f"{event['fault']}: it had no effect")
        if event["recovered"] is None:
            found.append(f"{event['fault']}: no recovery in {_RECOVERY:.0f} s")
    found += [f"forked child: {wrong}" for wrong in run["forks"]["wrong"]]
    growth = run["memory"]["grown_mib"]
    if run[ALL]["seconds"] >= 60 * _LONG and (growth is None or growth > _GROWTH):
        found.append(f"the memory grew by {growth} MiB, and {_GROWTH:g} are allowed")
    return found


def print_logs(folder: Path, lines: int = 30) -> None:
    """Print the last lines of each log in a folder, which is removed after the run."""
    for path in sorted(folder.glob("*.log")):
        last = path.read_text("utf-8", errors="replace").splitlines()[-lines:]
        print(f"--- the end of {path.name}", *last, sep="\n")


def main() -> None:
    """Run the test, print the figures, and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--unit", type=float, default=5, help="seconds of most faults")
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
        figures = soak.figures()
        broken = problems(figures)
        if broken:
            print_logs(Path(folder))
    settings = {name: getattr(arguments, name) for name in ("minutes", "callers", "unit", "light")}
    path = record.save(arguments.save, {**settings, **figures, "problems": broken})
    if arguments.save == _RESULT:
        PAGE.write_text(updated(PAGE.read_text("utf-8"), record.load(_RESULT)), "utf-8")
    for name in (ALL, *backends.rerankers):
        print(f"{name}: {figures[name]}")
    print(f"memory: {figures['memory']}")
    print(f"written to {path}")
    print("\n".join(broken) or "every promise was kept")
    sys.exit(bool(broken))


def recipe() -> Reranker:
    """Return the model card's recipe in transformers, with the servers' limit."""
    return Reranker(scorer=TransformersScorer("demo", dtype="float32", max_length=MAX_LENGTH))


if __name__ == "__main__":
    main()
