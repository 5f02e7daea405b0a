"""The blocks of the documentation that need an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.embedded.client import EngineClient

from support.call_paths import actual_calls, documented_calls
from support.docs_pages import ENGINE_PAGES, run_page
from support.scripted_server import ScriptedServer


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    """Hold the engine of `Reranker("demo")`, so that the pages share it."""
    with Reranker("demo").warm_up():
        yield


@pytest.mark.parametrize("page", ENGINE_PAGES)
@pytest.mark.usefixtures("engine")
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ScriptedServer() as server:
        run_page(page, server.url)


def test_the_documented_calls_lead_to_the_engine(
    reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = documented_calls("embedded")
    assert len(documented) <= 10
    assert len({module for _, module in documented}) <= 6
    reranker.warm_up()
    assert actual_calls(monkeypatch, EngineClient, "_ask", reranker=reranker) == documented
