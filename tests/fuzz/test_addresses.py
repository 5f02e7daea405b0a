"""Whatever is given as base_url: an error that names it, or requests below it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import Reranker, RerankerError

from fuzz.mutations import any_json, any_text, damaged_bytes

GOOD = [
    *("http://localhost:8000", "https://user:secret@h:1/v1/rerank?x=1#y", "http://[::1]:80/a%2Fb"),
    *(
        "http://127.0.0.1/v1/classify",
        "https://dashscope.aliyuncs.com/api/v1",
        "HTTP://EXAMPLE.COM",
    ),
]
PIECES = ["http://", "https://", "//", ":", "@", "[", "]", "/", "?", "#", "%", "..", "v1", "rerank"]
urls = st.one_of(
    st.sampled_from(GOOD).flatmap(
        lambda url: damaged_bytes(url.encode()).map(lambda b: b.decode("utf-8", "replace"))
    ),
    st.lists(st.sampled_from(PIECES) | any_text, max_size=7).map("".join),
    any_text,
)


def refuse(request: httpx.Request) -> httpx.Response:
    """Answer as a server without any path. No request leaves this machine."""
    return httpx.Response(404, json={"detail": "Not Found"})


def call(url: Any) -> None:
    """Make a reranker of an address, and score with it."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
    with Reranker(base_url=url, http_client=client, max_retries=0, timeout=5) as reranker:
        reranker.score("q", ["d"])


@given(url=urls)
@pytest.mark.timeout(900)
def test_an_address(url: str) -> None:
    with pytest.raises(RerankerError) as caught:
        call(url)
    assert str(caught.value)
    if ":secret@" in url:
        assert "secret" not in str(caught.value)


@given(url=any_json.filter(lambda url: url is not None) | st.lists(any_json | urls) | st.binary())
@pytest.mark.timeout(900)
def test_something_else_as_an_address(url: object) -> None:
    with pytest.raises(RerankerError):
        call(url)
