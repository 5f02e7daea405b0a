"""Fixtures of the tests of the remote scorer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qwen3_reranker.remote import failover

from support.scripted_server import ScriptedServer

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


@pytest.fixture
def soon() -> Iterator[None]:
    """Fail a test that hangs until some timeout."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON
