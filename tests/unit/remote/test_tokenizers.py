"""Tokenizers on this machine: read away from the event loop, and once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import Reranker, event_loop
from qwen3_reranker.model import prompt
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.tokenizer import ModelTokenizer, read_tokenizer
from qwen3_reranker.remote.scorer import RemoteScorer

from support.scripted_server import DOCUMENTS, QUERY, RIGHT, Reply, ScriptedServer


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The thread of each reading of a tokenizer, which takes a second for Qwen3's."""
    threads: list[threading.Thread] = []

    def recorded(tokenizer: str) -> ModelTokenizer:
        threads.append(threading.current_thread())
        return read_tokenizer(tokenizer)

    monkeypatch.setattr(prompt, "read_tokenizer", recorded)
    return threads


async def _thread() -> threading.Thread:
    return threading.current_thread()


@pytest.mark.parametrize("given", [True, False], ids=["given", "of the listed model"])
@pytest.mark.parametrize("template", ["client", "server"])
def test_no_tokenizer_is_read_on_the_event_loop(
    server: ScriptedServer,
    readers: list[threading.Thread],
    tmp_path: Path,
    template: Any,
    *,
    given: bool,
) -> None:
    (tmp_path / "tokenizer.json").write_text((DEMO_MODEL / "tokenizer.json").read_text())
    model = {"id": "m", "owned_by": "vllm", "root": str(tmp_path), "max_model_len": 2048}
    server.script["GET", "/v1/models"] = lambda _: Reply({"object": "list", "data": [model]})
    settings: dict[str, Any] = {"dialect": "vllm-rerank", "template": template}
    scorer = RemoteScorer(server.url, tokenizer="demo" if given else None, **settings)
    with Reranker(scorer=scorer) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        scorer.prompt(QUERY, DOCUMENTS[0], None)
        event_loop.run(scorer.prompt_builder())
        read = len(readers)
        assert read > 0
        for _ in range(3):
            event_loop.run(scorer.prompt_builder())
        assert len(readers) == read
    assert event_loop.run(_thread()) not in readers
