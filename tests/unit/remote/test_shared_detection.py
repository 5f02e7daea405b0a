"""Concurrent first calls: one detection, and one error, for all that wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qwen3_reranker import InputError, RerankerError, ServerError
from qwen3_reranker.remote.scorer import RemoteScorer

from support.scripted_server import DOCUMENTS, QUERY, Reply, ScriptedServer

FAILURES: dict[str, tuple[Reply, dict[str, Any], type[RerankerError]]] = {
    "the key is refused": (Reply({"error": "Unauthorized"}, 401), {}, ServerError),
    "max_length is above the limit": (Reply({}, 404), {"max_length": 4096}, InputError),
    "nothing scores": (Reply({"detail": "broken"}, 500), {}, ServerError),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_calls_that_wait_for_one_detection_share_its_error(
    server: ScriptedServer, name: str
) -> None:
    reply, settings, kind = FAILURES[name]
    server.always(reply)
    server.always(reply, "/v1/rerank")
    scorer = RemoteScorer(server.url, max_retries=0, **settings)
    calls = (scorer.score(QUERY, DOCUMENTS, None) for _ in range(10))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    await scorer.aclose()
    assert all(isinstance(error, kind) for error in errors), errors
    assert len({str(error) for error in errors}) == 1
    assert len(set(map(id, errors))) == 10  # one traceback each
    assert len(server.asked("/version")) == 1
