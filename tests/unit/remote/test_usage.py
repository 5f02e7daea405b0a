"""What calls to servers cost: tokens, requests, retries and seconds, per call and per server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from qwen3_reranker import (
    EndpointStats,
    EndpointUsage,
    Reranker,
    RerankerWarning,
    ServerError,
    Stats,
)

from support.helpers import either
from support.scripted_server import (
    DOCUMENTS,
    QUERY,
    Reply,
    Request,
    ScriptedServer,
    classify,
    rerank,
)

CALLS: list[Callable[..., Any]] = [either("rerank"), either("arerank")]
COUNT = len(DOCUMENTS)
TOO_LARGE = Reply({"error": "batch size 9 > maximum allowed batch size 8"}, 413)


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    """Another server of the same model."""
    with ScriptedServer() as server:
        yield server


def counting(extra: int) -> Callable[[Request], Reply]:
    """Return a handler that reports the tokens of the prompts, and `extra` ones, as vLLM does."""

    def answer(request: Request) -> Reply:
        tokens = sum(map(len, request.body["input"])) + extra
        reply = classify(request)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
        return replace(reply, body=reply.body | {"usage": usage})

    return answer


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("extra", [None, 0, 5], ids=["not counted", "the same", "other"])
async def test_tokens_are_those_that_the_server_counts_or_else_those_sent(
    server: ScriptedServer, call: Callable[..., Any], extra: int | None
) -> None:
    if extra is not None:
        server.always(counting(extra))
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        ids = sum(len(reranker.prompt(QUERY, document).ids) for document in DOCUMENTS)
        usage = (await call(reranker, QUERY, DOCUMENTS)).usage
        stats = reranker.stats()
    tokens = ids + (extra or 0)
    assert (usage.scored, usage.tokens, usage.uncounted) == (COUNT, tokens, 0)
    [endpoint] = usage.endpoints.values()
    assert endpoint == EndpointUsage(1, COUNT, tokens, usage.scoring_seconds)
    assert usage.scoring_seconds > 0
    busy = usage.tokenizing_seconds + usage.waiting_seconds + usage.scoring_seconds
    assert busy <= usage.seconds
    # The probes and the detection are in no number.
    assert stats.endpoints == {server.url: EndpointStats(1, COUNT, tokens, endpoint.seconds)}
    assert (stats.queries, stats.tokens, stats.seconds) == (1, tokens, usage.seconds)


async def test_text_to_a_server_that_counts_nothing_is_uncounted(server: ScriptedServer) -> None:
    server.script["POST", "/classify"] = lambda _: Reply({"detail": "Not Found"}, 404)
    with Reranker(base_url=server.url, dialect="rerank") as reranker:
        usage = reranker.rerank(QUERY, DOCUMENTS).usage
    assert (usage.scored, usage.tokens, usage.uncounted) == (COUNT, 0, COUNT)


async def test_an_ambiguous_token_count_is_not_used(server: ScriptedServer) -> None:
    """A server of an unknown kind may count characters, or documents without the template."""

    def answer(request: Request) -> Reply:
        reply = rerank(request)
        return replace(reply, body=reply.body | {"usage": {"total_tokens": 7}})

    server.always(answer, path="/v1/rerank")
    with Reranker(base_url=server.url, dialect="rerank") as reranker:
        usage = reranker.rerank(QUERY, DOCUMENTS).usage
    assert (usage.tokens, usage.uncounted) == (0, COUNT)


@pytest.mark.parametrize("call", CALLS)
async def test_a_failover_is_counted(
    server: ScriptedServer, other: ScriptedServer, call: Callable[..., Any]
) -> None:
    with Reranker(base_url=[server.url, other.url]) as reranker:
        reranker.warm_up()
        server.first(Reply({"message": "loading"}, 503))
        usage = (await call(reranker, QUERY, DOCUMENTS)).usage
        stats = reranker.stats()
    assert (usage.retries, usage.failures, list(usage.endpoints)) == (1, 0, [other.url])
    failed, answered = stats.endpoints[server.url], stats.endpoints[other.url]
    assert (failed.requests, failed.failures, failed.retries) == (0, 1, 0)
    assert 0 < failed.backoff_seconds <= 1
    assert (answered.requests, answered.failures, answered.retries) == (1, 0, 1)
    assert answered.backoff_seconds == 0
    assert answered.documents == stats.scored == COUNT


@pytest.mark.usefixtures("at_once")
async def test_a_retry_on_the_same_server_is_counted(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url) as reranker:
        reranker.warm_up()
        server.first(Reply({"message": "busy"}, 503), Reply({"message": "busy"}, 503))
        usage = reranker.rerank(QUERY, DOCUMENTS).usage
        [endpoint] = reranker.stats().endpoints.values()
    assert (usage.retries, usage.endpoints[server.url].requests) == (2, 1)
    assert (endpoint.failures, endpoint.retries, endpoint.backoff_seconds) == (2, 2, 0)
    # The attempts that failed, and the pauses after them.
    assert usage.waiting_seconds > 0.02


async def test_splits_are_counted(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url) as reranker:
        reranker.warm_up()
        server.first(TOO_LARGE, TOO_LARGE)
        usage = reranker.rerank(QUERY, DOCUMENTS).usage
        [endpoint] = reranker.stats().endpoints.values()
    assert (usage.splits, usage.retries, usage.documents, usage.scored) == (2, 0, COUNT, COUNT)
    assert (endpoint.requests, endpoint.documents, endpoint.failures) == (3, COUNT, 0)


@pytest.mark.parametrize("status", [401, 503])
async def test_a_call_that_fails_is_counted(server: ScriptedServer, status: int) -> None:
    with Reranker(base_url=server.url, max_retries=0) as reranker:
        reranker.warm_up()
        server.always(Reply({"message": "no"}, status))
        with pytest.raises(ServerError):
            reranker.rerank(QUERY, DOCUMENTS)
        stats = reranker.stats()
    assert (stats.queries, stats.failures, stats.scored, stats.tokens) == (1, 1, 0, 0)
    assert stats.endpoints[server.url].failures == 1


async def test_parts_of_a_large_call_add_up(server: ScriptedServer) -> None:
    texts = [f"The river number {n} begins in the hills." for n in range(2500)]
    with Reranker(base_url=server.url, dialect="vllm-classify", tokenizer="demo") as reranker:
        usage = reranker.rerank(QUERY, [*texts, *texts]).usage
        ids = len(reranker.prompt(QUERY, texts[0]).ids)
    requests = len([r for r in server.asked() if len(r.body["input"]) > 10])
    assert requests > 1
    assert usage.endpoints[server.url].requests == requests
    assert (usage.documents, usage.scored) == (5000, 2500)
    assert usage.tokens >= 2500 * ids
    assert (usage.retries, usage.splits) == (0, 0)


async def test_what_the_cache_has_costs_no_tokens(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url, tokenizer="demo", cache={}) as reranker:
        first = reranker.rerank(QUERY, DOCUMENTS).usage
        second = reranker.rerank(QUERY, DOCUMENTS).usage
        stats = reranker.stats()
    assert (first.scored, first.cached) == (COUNT, 0)
    assert (second.scored, second.cached, second.tokens, second.endpoints) == (0, COUNT, 0, {})
    assert stats.tokens == stats.endpoints[server.url].tokens == first.tokens > 0


async def test_two_rerankers_of_one_server_have_their_own_stats(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url) as one, Reranker(base_url=server.url) as two:
        one.rerank(QUERY, DOCUMENTS)
        assert one.stats().queries == 1
        assert two.stats() == Stats(endpoints={server.url: EndpointStats()})


async def test_an_unscored_ranking_says_that_it_failed(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url, on_error="keep_order", max_retries=0) as reranker:
        reranker.warm_up()
        server.always(Reply({"message": "no"}, 500))
        with pytest.warns(RerankerWarning):
            usage = reranker.rerank(QUERY, DOCUMENTS).usage
        assert (usage.queries, usage.failures, usage.documents) == (1, 1, COUNT)
        assert reranker.stats().failures == 1
