"""Fixtures of the tests of the remote scorer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from qwen3_reranker.remote import endpoint as endpoints
from qwen3_reranker.remote import failover

from support.scripted_server import Pair, ScriptedServer

SOON = 20  # seconds


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that answers like vLLM."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between attempts."""
    monkeypatch.setattr(failover, "_backoff", lambda _: 0.01)
    monkeypatch.setattr(failover, "_jitter", lambda _: 0.0)


@pytest.fixture
def soon() -> Iterator[None]:
    """Fail a test that hangs until some timeout."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two servers that answer like vLLM."""
    with ScriptedServer() as first, ScriptedServer() as second:
        yield first, second


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass on the clock that decides which servers are backing off."""
    shift = 0.0

    def clock() -> float:
        return time.monotonic() + shift

    def advance(seconds: float) -> None:
        nonlocal shift
        shift += seconds

    monkeypatch.setattr(failover, "monotonic", clock)
    monkeypatch.setattr(endpoints, "monotonic", clock)
    return advance
