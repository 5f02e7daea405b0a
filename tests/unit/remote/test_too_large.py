"""Requests that are too large for a server: halved until they fit, in the right order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import Reranker, ServerError, ServerUnavailableError

from support.scripted_server import (
    DOCUMENTS,
    QUERY,
    Reply,
    Request,
    ScriptedServer,
    but,
    classify,
    relevance,
)

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


@settings(derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    most=st.integers(1, 30),
    longest=st.integers(60, 400),
    status=st.sampled_from(sorted(TOO_MANY)),
)
def test_a_request_that_is_too_large_is_split(
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
def test_a_single_document_that_is_too_long_shows_the_servers_message(
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


OVERLOADED = [
    "context deadline exceeded",
    "Too many open files",
    "maximum recursion depth exceeded",
    "Rate limit exceeded: too many tokens per minute",
    "maximum number of concurrent requests exceeded",
    "The request took too long",
    "Invalid token: maximum age exceeded",
    "The token has expired: maximum length of a session exceeded",
    "maximum queue length exceeded",
    "token id 151700 is out of vocabulary: max 151668",
    "logit_bias: token ids must be less than vocab size",
]


@pytest.mark.parametrize("status", [400, 422, 500, 503])
@pytest.mark.parametrize("message", OVERLOADED)
def test_overload_is_not_taken_for_size(
    shared: tuple[ScriptedServer, Reranker], message: str, status: int
) -> None:
    server, _ = shared
    server.always(classify)
    with Reranker(base_url=server.url, max_retries=0) as reranker:
        reranker.warm_up()
        before = len(server.asked())
        server.always(Reply({"error": {"message": message}}, status))
        with pytest.raises(ServerError, match=message) as caught:
            reranker.score(QUERY, [f"river {i}" for i in range(64)])
    assert len(server.asked()) == before + 1
    assert isinstance(caught.value, ServerUnavailableError) == (status >= 500)


async def test_the_halves_of_a_request_are_not_queued_behind_other_calls() -> None:
    sent: list[int] = []
    waiting = threading.Event()

    def limited(request: Request) -> Reply:
        sent.append(len(request.body["input"]))
        reply = classify(request) if sent[-1] in (1, 3) else Reply(TOO_MANY[413], 413)
        return replace(reply, hold=waiting)

    with ScriptedServer() as server:
        async with Reranker(base_url=server.url, max_concurrency=1) as reranker:
            await reranker.awarm_up()
            server.always(limited)
            first = asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS[:4]))
            async with asyncio.timeout(20):
                while not sent:
                    await asyncio.sleep(0.01)
            others = [asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS[:3])) for _ in range(3)]
            await asyncio.sleep(0)
            waiting.set()
            await asyncio.gather(first, *others)
    assert sent == [4, 2, 1, 1, 2, 1, 1, 3, 3, 3]


def test_the_work_of_an_overloaded_server_moves_on(
    shared: tuple[ScriptedServer, Reranker],
) -> None:
    server, _ = shared
    server.always(classify)
    with ScriptedServer() as other, Reranker(base_url=[server.url, other.url]) as reranker:
        reranker.warm_up()
        before = len(server.asked())
        server.always(Reply({"error": "context deadline exceeded"}, 500))
        assert reranker.score(QUERY, DOCUMENTS) == [relevance(QUERY, d) for d in DOCUMENTS]
    assert len(server.asked()) == before + 1


# What servers answer to a prompt that is too long or to too many documents, in their own words.
WORDS = [
    (400, TOO_LONG),
    (400, "The decoder prompt (length 8193) is longer than the maximum model length of 8192."),
    (400, "The input (85050 tokens) is longer than the model's context length (32768 tokens)."),
    (400, "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens)."),
    (400, "Range of input length should be [1, 30720]"),
    (400, "batch size is invalid, it should not be larger than 25"),
    (400, "the request exceeds the available context size. try increasing the context size"),
    (400, "too many tokens: the total number of tokens in the prompt cannot exceed 4081"),
    (400, "Input is too long for requested model."),
    (413, "Input validation error: `inputs` must have less than 512 tokens. Given: 600"),
    (413, "Payload Too Large"),
    (422, "batch size 64 > maximum allowed batch size 32"),
    (422, "List should have at most 2048 items after validation, not 3000"),
    (500, "input is too large to process. increase the physical batch size"),
    (500, "input (600 tokens) is too large to process. increase the physical batch size"),
    (500, "input is larger than the max context size. skipping"),
    (500, "request (9000 tokens) exceeds the available context size, try increasing it"),
]


@pytest.mark.parametrize(("status", "message"), WORDS)
def test_each_servers_message_for_too_large_is_recognized(
    shared: tuple[ScriptedServer, Reranker], status: int, message: str
) -> None:
    server, reranker = shared
    server.always(classify)
    before = len(server.asked())
    server.first(Reply({"error": message}, status))
    assert reranker.score(QUERY, DOCUMENTS) == [relevance(QUERY, d) for d in DOCUMENTS]
    new = [request for request in server.asked()[before:] if "river number" in str(request.body)]
    assert [len(request.body["input"]) for request in new] == [7, 3, 4]


def test_a_document_that_is_refused_ends_the_call(
    shared: tuple[ScriptedServer, Reranker],
) -> None:
    """The parts are halved one after the other, so the first single document tells all."""
    server, reranker = shared
    server.always(Reply({"error": TOO_LONG}, 400))
    before = len(server.asked())
    with pytest.raises(ServerError, match="maximum context length"):
        reranker.score(QUERY, [f"river {i}" for i in range(256)])
    assert len(server.asked()) - before == 9


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 2])
def test_one_timeout_bounds_all_splits(servers: int) -> None:
    """Each answer comes in time, all of them together do not."""
    with ScriptedServer() as first, ScriptedServer() as second:
        used = [first, second][:servers]
        with Reranker(base_url=[server.url for server in used], timeout=60) as patient:
            patient.warm_up()
        known: dict[str, Any] = {"dialect": "vllm-classify", "template": "client"}
        for server in used:
            server.always(but(wait=0.4, status=400, body={"error": TOO_LONG}))
        with Reranker(base_url=[server.url for server in used], timeout=1, **known) as reranker:
            started = time.monotonic()
            with pytest.raises(ServerUnavailableError) as caught:
                reranker.score(QUERY, [f"river {i}" for i in range(64)])
            # The margin is for a busy machine; the seven levels of halving would take 2.8 s.
            assert time.monotonic() - started < servers + 1
    message = str(caught.value)
    for server in used:
        assert f"{server.url} did not finish within 1 s" in message
    assert "requests were too large and were halved" in message
    assert "The last request that was too large: http" in message
    assert "maximum context length is 2048 tokens" in message


@pytest.mark.slow
def test_detection_and_scoring_share_one_timeout() -> None:
    with ScriptedServer() as server:
        with Reranker(base_url=server.url, timeout=60) as patient:
            patient.warm_up()
        server.first(but(wait=0.5), but(wait=0.5), but(wait=0.8))  # the probe, and the score
        with Reranker(base_url=server.url, timeout=1) as reranker:
            with pytest.raises(ServerUnavailableError, match="within 1 s"):
                reranker.score(QUERY, DOCUMENTS)
            assert reranker.score(QUERY, DOCUMENTS) == [relevance(QUERY, d) for d in DOCUMENTS]
