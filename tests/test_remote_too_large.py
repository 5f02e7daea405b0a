"""Requests that are too large for a server: halved until they fit, in the right order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import Reranker, ServerError, ServerUnavailableError

from scripted_server import Reply, Request, ScriptedServer, classify, relevance

QUERY = "Where does the river begin?"
DOCUMENTS = [f"The river number {i} begins in the hills." for i in range(7)]
TOO_LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least "
    "2049 input tokens. Please reduce the length of the input prompt."
)
TOO_MANY = {
    413: {"error": "batch size 9 > maximum allowed batch size 8", "error_type": "Validation"},
    422: {"error": "batch size 9 > maximum allowed batch size 8", "error_type": "Validation"},
    400: {"error": {"message": TOO_LONG, "type": "BadRequestError", "code": 400}},
    500: {"error": {"message": "input is too large to process. increase the physical batch size"}},
}


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[ScriptedServer, Reranker]]:
    with ScriptedServer() as server, Reranker(base_url=server.url) as reranker:
        yield server, reranker.warm_up()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    most=st.integers(1, 30),
    longest=st.integers(60, 400),
    status=st.sampled_from(sorted(TOO_MANY)),
)
def test_what_does_not_fit_into_a_request_is_halved(
    shared: tuple[ScriptedServer, Reranker],
    lengths: list[int],
    most: int,
    longest: int,
    status: int,
) -> None:
    server, reranker = shared
    documents = [f"{place} river {'x' * length}" for place, length in enumerate(lengths)]

    def limited(request: Request) -> Reply:
        prompts = request.body["input"]
        fits = len(prompts) <= most and sum(prompt.count("x") for prompt in prompts) <= longest
        return classify(request) if fits or len(prompts) == 1 else Reply(TOO_MANY[status], status)

    server.always(limited)
    assert reranker.score(QUERY, documents) == [relevance(QUERY, d) for d in documents]


@pytest.mark.parametrize("status", TOO_MANY)
def test_one_document_that_is_too_long_is_the_servers_to_explain(
    shared: tuple[ScriptedServer, Reranker], status: int
) -> None:
    server, reranker = shared
    before = len(server.asked())
    server.always(Reply(TOO_MANY[status], status))
    with pytest.raises(ServerError, match="reduce the length|batch size") as caught:
        reranker.score(QUERY, ["one"])
    assert not isinstance(caught.value, ServerUnavailableError)
    # Others may still arrive that the test before cancelled.
    new = [request for request in server.asked()[before:] if ": one<" in str(request.body)]
    assert len(new) == 1
    with pytest.raises(ServerError, match="reduce the length|batch size"):
        reranker.score(QUERY, DOCUMENTS)
    assert len(server.asked()) < before + 2 * len(DOCUMENTS)
