"""What the tests of the engine process share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.engine import Engine
from qwen3_reranker.embedded.engine_registry import active_engines
from qwen3_reranker.model.probability import sigmoid

from support.fake_vllm.vllm import logit_of

SUPPORT = Path(__file__).parent
# Like a logger in a program without logging configuration. pytest adds handlers to the root logger.
BARE_LOGGER = logging.Logger("bare")  # noqa: LOG001
TEXTS = [f"document {number}" for number in range(40)]
MakePython = Callable[..., str]


MakeReranker = Callable[..., Reranker]


def engines_of(reranker: Reranker) -> list[Any]:
    """Return the engines of a reranker, to which there is no public way."""
    engines: list[Any] = reranker._scorer._engines.engines  # type: ignore[attr-defined]
    return engines


def engine_of(reranker: Reranker) -> Any:
    """Return the only engine of a reranker."""
    [engine] = engines_of(reranker)
    return engine


def process_of(reranker: Reranker) -> psutil.Process:
    return psutil.Process(engine_of(reranker).running.client.pid)


def expected(reranker: Reranker, query: str, texts: list[str]) -> list[float]:
    return [sigmoid(logit_of(reranker.prompt(query, text).ids)) for text in texts]


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def children() -> list[psutil.Process]:
    """Return the processes that this test has started."""
    return [p for p in psutil.Process().children() if p not in other_processes and not gone(p)]


def engines() -> set[Engine]:
    """Return the engines that this test has made and not released."""
    return set(active_engines()) - other_engines


other_processes: set[psutil.Process] = set()
other_engines: set[Engine] = set()
