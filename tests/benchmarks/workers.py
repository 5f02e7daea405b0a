"""Run each contender in its own process, loaded once and measured one at a time."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.work import Work

__all__ = ["Modes", "Outcome", "Worker"]

Modes = Mapping[str, Callable[[Work], Callable[[], Any]]]
"""
The modes of a contender by name.

A mode takes the work and returns a function, whose call is timed. Preparation that a caller would
have done already is not timed. The function returns a JSON value.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a contender, and the wall-clock and CPU seconds that it took."""

    result: Any
    seconds: float
    cpu_seconds: float


class Worker:
    """
    A process that loads a contender and scores the work that it receives.

    Args:
        loader: "module:function". The function takes `argument` and returns `Modes`.
        argument: The model's folder, or the server's URL.
        log: The file for the output of the process.
        env: Environment variables to add to those of this process.
    """

    def __init__(
        self, loader: str, argument: str, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", loader, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._answer()
        self.load_seconds = time.perf_counter() - started

    def ask(self, mode: str, work: Work) -> Outcome:
        """Score the work in a mode, and return the outcome."""
        assert self._process.stdin is not None
        print(json.dumps([mode, work]), file=self._process.stdin, flush=True)
        return Outcome(**self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contender ended:\n{self._log.read_text()[-4000:]}")
        return json.loads(line)


def _serve(loader: str, argument: str) -> None:
    # Libraries print to standard output too, so the answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = loader.partition(":")
    modes: Modes = getattr(importlib.import_module(module), function)(argument)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        mode, work = json.loads(line)
        score = modes[mode]([(query, texts) for query, texts in work])
        started, cpu_started = time.perf_counter(), time.process_time()
        outcome = {
            "result": score(),
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu_started,
        }
        print(json.dumps(outcome), file=answers, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
