"""Calls that are larger than one request: split by the limits of the server that takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from qwen3_reranker import Reranker

from support.scripted_server import (
    MODEL,
    QUERY,
    Handler,
    Reply,
    Request,
    ScriptedServer,
    relevance,
    scored,
)

TEXTS = [f"The river number {i} begins in the hills." for i in range(100)]
RIGHT = [relevance(QUERY, text) for text in TEXTS]
TEI_LIMIT = 32  # texts per request
INFO = {"model_id": MODEL, "version": "1.8.0", "max_client_batch_size": 32}


def tei(request: Request) -> Reply:
    """Answer as TEI 1.8 does."""
    texts = request.body["texts"]
    if len(texts) > TEI_LIMIT:
        message = f"batch size {len(texts)} > maximum allowed batch size {TEI_LIMIT}"
        return Reply({"error": message, "error_type": "Validation"}, 413)
    body = {"query": request.body["query"], "documents": texts}
    ranks = [
        {"index": index, "score": score}
        for index, score in enumerate(scored(replace(request, body=body)))
    ]
    return Reply(sorted(ranks, key=lambda rank: -rank["score"]))


@pytest.fixture
def small() -> Iterator[ScriptedServer]:
    """A server that takes fewer documents per request than vLLM does."""
    script: dict[tuple[str, str], Handler] = {
        ("GET", "/info"): lambda _: Reply(INFO),
        ("POST", "/rerank"): tei,
    }
    with ScriptedServer(script) as server:
        yield server


def test_a_failover_splits_by_the_limits_of_the_server_that_takes_over(
    server: ScriptedServer, small: ScriptedServer
) -> None:
    with Reranker(base_url=[server.url, small.url], tokenizer="demo") as reranker:
        reranker.warm_up()
        server.always(Reply({"message": "loading"}, 503))
        before = len(server.asked())
        assert reranker.score(QUERY, TEXTS) == RIGHT
    assert [len(request.body["input"]) for request in server.asked()[before:]] == [100]
    sizes = [len(request.body["texts"]) for request in small.asked("/rerank")]
    assert sorted(size for size in sizes if size > 3) == [4, 32, 32, 32]  # 1 and 3 are the probe's


def test_a_failover_is_not_bound_by_the_limits_of_the_server_that_failed(
    server: ScriptedServer, small: ScriptedServer
) -> None:
    with Reranker(base_url=[small.url, server.url], tokenizer="demo", max_retries=0) as reranker:
        reranker.warm_up()
        small.always(
            Reply({"error": "Model is overloaded", "error_type": "Overloaded"}, 429), "/rerank"
        )
        assert reranker.score(QUERY, TEXTS[:TEI_LIMIT]) == RIGHT[:TEI_LIMIT]
        before = len(server.asked())
        assert reranker.score(QUERY, TEXTS) == RIGHT  # the small one is backing off
    assert [len(request.body["input"]) for request in server.asked()[before:]] == [100]
