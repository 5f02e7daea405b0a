"""Whatever a server answers: the right scores or an error of the package, within the time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import Reranker, RerankerError

from fuzz.mutations import any_json, damaged, damaged_bytes, encoded
from support.scripted_server import (
    DOCUMENTS,
    QUERY,
    Reply,
    Request,
    ScriptedServer,
    classify,
    rerank,
)

# The path and the right answer of two dialects.
DIALECTS = {"vllm-classify": ("/classify", classify), "vllm-rerank": ("/v1/rerank", rerank)}
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "Location", "Server", "Content-Encoding", "X"]),
    st.sampled_from(["0", "-1", "nan", "1e99", "Fri, 31 Dec 9999 23:59:59 GMT", "gzip", "http://["])
    | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
    max_size=2,
)


@pytest.fixture(scope="module", params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """The dialect that is spoken."""
    return str(request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    """The server."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ScriptedServer, dialect: str) -> Iterator[Reranker]:
    """A reranker that does not wait long."""
    settings: dict[str, Any] = {"max_retries": 0, "timeout": 5, "template": "client"}
    with Reranker(base_url=server.url, dialect=dialect, tokenizer="demo", **settings) as reranker:
        yield reranker


@given(data=st.data())
@pytest.mark.timeout(900)
def test_an_answer(
    data: st.DataObject, server: ScriptedServer, client: Reranker, dialect: str
) -> None:
    path, right = DIALECTS[dialect]

    def spoil(request: Request) -> Reply:
        body = right(request).body
        draw = data.draw
        spoiled = draw(
            st.one_of(
                damaged(body).map(encoded), any_json.map(encoded), damaged_bytes(encoded(body))
            )
        )
        status = draw(st.sampled_from([200, 200, 200, 204, 304, 307, 400, 404, 413, 422, 429, 503]))
        cut = draw(st.none() | st.integers(0, len(spoiled)))
        return Reply(spoiled, status, draw(HEADERS), reset_after=cut)

    count = data.draw(st.integers(1, len(DOCUMENTS)))
    server.first(spoil, path=path)
    try:
        scores = client.score(QUERY, DOCUMENTS[:count])
    except RerankerError as error:
        assert str(error)
    else:
        assert len(scores) == count
        assert all(0 <= score <= 1 and not math.isnan(score) for score in scores)
    finally:
        server._first.clear()
