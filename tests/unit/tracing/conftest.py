"""Fixtures of the tests of tracing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen3_reranker import Reranker

from support.scripted_server import ScriptedServer


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the variables that decide whether spans contain texts."""
    monkeypatch.delenv("QWEN3_RERANKER_TRACE_TEXTS", raising=False)
    for name in ("INPUTS", "OUTPUTS"):
        monkeypatch.delenv(f"OPENINFERENCE_HIDE_{name}", raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that answers like vLLM."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def remote(server: ScriptedServer) -> Iterator[Reranker]:
    """A reranker whose server is detected already."""
    with Reranker(base_url=server.url, max_retries=0) as reranker:
        yield reranker.warm_up()
