"""Many calls at once, from threads and event loops, that are cancelled, closed and disconnected."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import httpx
import pytest
from langchain_core.documents import Document

from qwen3_reranker import ClosedError, Reranker, RerankerError, ServerError, ServerUnavailableError
from qwen3_reranker.langchain import Qwen3Rerank
from qwen3_reranker.remote.scorer import RemoteScorer

from support.doctor_servers import vllm
from support.scripted_server import (
    DOCUMENTS,
    HANG,
    QUERY,
    RIGHT,
    Reply,
    Request,
    ScriptedServer,
    but,
    demo_tokenizer,
    relevance,
)

SOON = 20


def detokenize(request: Request) -> Reply:
    return Reply({"prompt": demo_tokenizer().decode(request.body["tokens"])})


@pytest.fixture
async def reranker(server: ScriptedServer) -> AsyncIterator[Reranker]:
    async with Reranker(base_url=server.url, timeout=60) as reranker:
        yield await reranker.awarm_up()


def work(number: int) -> tuple[str, list[str]]:
    """Return a query and documents that no other call has."""
    return f"river number {number}", [f"The river {number} has {i} sources." for i in range(9)]


def right(number: int) -> list[float]:
    query, documents = work(number)
    return sorted((relevance(query, document) for document in documents), reverse=True)


async def until(server: ScriptedServer, requests: int, path: str = "/classify") -> None:
    async with asyncio.timeout(SOON):
        while len(server.asked(path)) < requests:
            await asyncio.sleep(0.01)


# Many calls


async def test_200_calls_in_one_loop_each_get_their_own_scores(server: ScriptedServer) -> None:
    server.always(but(wait=0.02))
    async with Qwen3Rerank(base_url=server.url, top_n=None, max_concurrency=8) as adapter:

        async def one(number: int) -> list[float]:
            query, texts = work(number)
            found = await adapter.acompress_documents([Document(text) for text in texts], query)
            return [document.metadata["relevance_score"] for document in found]

        found = await asyncio.gather(*map(one, range(200)))
    assert found == [right(number) for number in range(200)]
    assert server.most <= 8
    assert len(server.asked()) == 202  # and the two of the probe


def test_200_threads_each_get_their_own_scores(server: ScriptedServer) -> None:
    with Qwen3Rerank(base_url=server.url, top_n=None, max_concurrency=5) as adapter:

        def one(number: int) -> list[float]:
            query, texts = work(number)
            found = adapter.compress_documents([Document(text) for text in texts], query)
            return [document.metadata["relevance_score"] for document in found]

        with ThreadPoolExecutor(200) as pool:
            found = list(pool.map(one, range(200)))
    assert found == [right(number) for number in range(200)]
    assert server.most <= 5


def test_event_loops_in_threads_share_a_reranker(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:

        async def several(first: int) -> list[list[float]]:
            calls = (reranker.arerank(*work(number)) for number in range(first, first + 5))
            return [[hit.score for hit in hits] for hits in await asyncio.gather(*calls)]

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda i: asyncio.run(several(5 * i)), range(12)))
    assert [scores for each in found for scores in each] == [right(i) for i in range(60)]


@pytest.mark.slow
async def test_a_call_of_many_documents_keeps_their_order(server: ScriptedServer) -> None:
    documents = [f"The river {i} begins where {i * i} springs are." for i in range(3000)]
    waits = cycle([0.15, 0.0, 0.1, 0.05])

    def unevenly(request: Request) -> Reply:
        return but(wait=next(waits))(request)

    server.always(unevenly)
    async with Reranker(base_url=server.url, max_concurrency=4) as reranker:
        found = await reranker.ascore(QUERY, documents)
    assert found == [relevance(QUERY, document) for document in documents]
    assert server.most <= 4


@pytest.mark.slow
async def test_waiting_for_a_turn_is_not_the_servers_time(server: ScriptedServer) -> None:
    server.always(but(wait=0.2))
    settings: dict[str, Any] = {"dialect": "vllm-classify", "template": "client"}
    async with Reranker(
        base_url=server.url, max_concurrency=2, timeout=1.0, max_retries=0, **settings
    ) as reranker:
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(16)))
    assert found == [RIGHT] * 16


async def test_one_failing_part_ends_the_call_and_its_other_parts(
    server: ScriptedServer, reranker: Reranker
) -> None:
    server.always(HANG)
    server.first(but(wait=0.3, status=400))
    started = time.monotonic()
    with pytest.raises(ServerError):
        await reranker.ascore(QUERY, [f"river {i}" for i in range(1000)])
    assert time.monotonic() - started < SOON
    async with asyncio.timeout(SOON):
        while len(server.dropped) < 3:
            await asyncio.sleep(0.01)


async def test_long_documents_are_tokenized_within_the_limit_of_requests() -> None:
    """The server's /tokenize is asked about each document that may be too long."""
    documents = [f"the river number {i} " + "water " * 600 for i in range(40)]
    with ScriptedServer({**vllm(), ("POST", "/detokenize"): detokenize}) as server:
        async with httpx.AsyncClient() as client:
            settings: dict[str, Any] = {"http_client": client, "max_concurrency": 3}
            async with Reranker(base_url=server.url, **settings) as reranker:
                found = await reranker.ascore(QUERY, documents)
        assert len(found) == 40
        assert len(server.asked("/tokenize")) > 40
        assert server.most <= 3


@pytest.mark.slow
async def test_one_path_that_hangs_leaves_its_connection_to_others_in_time(
    server: ScriptedServer,
) -> None:
    """A GET has a quarter of the time, which begins when it has a connection."""
    server.script["GET", "/v1/models"] = lambda _: HANG
    async with Reranker(base_url=server.url, max_concurrency=1, timeout=4) as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
    assert server.most == 1


# Finding out


async def test_50_first_calls_share_one_detection(server: ScriptedServer) -> None:
    async with Reranker(base_url=server.url) as reranker:
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(50)))
        assert found == [RIGHT] * 50
        gets = [request.path for request in server.requests if request.method == "GET"]
        assert len(gets) == len(set(gets)) < 10
        assert len(server.asked()) == 52


async def test_the_server_is_detected_again_after_a_failure(server: ScriptedServer) -> None:
    script, server.script = server.script, {}
    async with Reranker(base_url=server.url) as reranker:
        for _ in range(2):
            with pytest.raises(ServerError, match="nothing at"):
                await reranker.ascore(QUERY, DOCUMENTS)
        assert len(server.asked("/version")) == 2
        server.script = script
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert len(server.asked("/version")) == 3


async def test_a_probe_that_fails_cancels_the_other_requests_of_the_detection(
    server: ScriptedServer, at_once: None
) -> None:
    server.first(Reply({"detail": "busy"}, 503), HANG)
    async with Reranker(base_url=server.url) as reranker:
        await reranker.awarm_up()
        async with asyncio.timeout(SOON):
            while not server.dropped:
                await asyncio.sleep(0.01)


async def test_a_canceled_first_call_leaves_the_detection_to_the_others(
    server: ScriptedServer,
) -> None:
    server.first(HANG, path="/version")
    async with Reranker(base_url=server.url) as reranker:
        first = asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS))
        await until(server, 1, "/version")
        others = [asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS)) for _ in range(5)]
        await asyncio.sleep(0.1)
        first.cancel()
        async with asyncio.timeout(SOON):
            assert await asyncio.gather(*others) == [RIGHT] * 5
    assert len(server.asked("/version")) == 2


# Connections


def test_connections_that_the_server_closed_do_not_fail_a_call(server: ScriptedServer) -> None:
    with Reranker(base_url=server.url, max_retries=0) as reranker:
        for _ in range(5):
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            before = server.connections
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
            assert server.connections == before  # kept alive
            server.hang_up()
            time.sleep(0.05)


async def test_canceled_and_timed_out_calls_give_their_connections_back(
    server: ScriptedServer,
) -> None:
    async with Reranker(base_url=server.url, max_concurrency=2, timeout=60) as reranker:
        await reranker.awarm_up()
        for _ in range(10):
            server.first(HANG, HANG)
            before = len(server.asked())
            tasks = [asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS)) for _ in range(4)]
            await until(server, before + 2)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(SOON):
            found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(8)))
    assert found == [RIGHT] * 8
    # The server learns late that a connection ended, so what it has open is not counted here.


@pytest.mark.slow
async def test_calls_that_time_out_leave_no_connection_behind(server: ScriptedServer) -> None:
    settings: dict[str, Any] = {"dialect": "vllm-classify", "template": "client"}
    async with Reranker(base_url=server.url, timeout=60) as patient:
        await patient.awarm_up()
    async with Reranker(base_url=server.url, timeout=1, **settings) as reranker:
        await reranker.awarm_up()
        before = len(server.asked())
        server.always(HANG)
        calls = (reranker.ascore(QUERY, DOCUMENTS) for _ in range(30))
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in found} == {ServerUnavailableError}
        async with asyncio.timeout(SOON):
            while len(server.dropped) < len(server.asked()) - before:
                await asyncio.sleep(0.01)


async def test_canceling_a_call_closes_its_request(
    server: ScriptedServer, reranker: Reranker
) -> None:
    before = len(server.asked())
    server.first(HANG)
    task = asyncio.create_task(reranker.ascore(QUERY, DOCUMENTS))
    await until(server, before + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(SOON):
        while not server.dropped:
            await asyncio.sleep(0.01)
    assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT


# Closing


CALLS: dict[str, Any] = {
    "score": lambda reranker: reranker.score(QUERY, DOCUMENTS),
    "rerank_many": lambda reranker: reranker.rerank_many([(QUERY, DOCUMENTS)] * 5),
    "keep_order": lambda reranker: reranker.rerank(QUERY, DOCUMENTS),
    "warm_up": lambda reranker: reranker.warm_up(),
    "describe": lambda reranker: reranker.describe(),
    "prompt": lambda reranker: reranker.prompt(QUERY, "document"),
}


@pytest.mark.parametrize(
    ("name", "known"),
    [(name, False) for name in CALLS] + [(name, True) for name in list(CALLS)[:3]],
)
def test_closing_ends_the_calls_that_wait(
    server: ScriptedServer, name: str, *, known: bool
) -> None:
    reranker = Reranker(base_url=server.url, timeout=60, on_error="keep_order")
    if known:
        reranker.warm_up()
    else:
        server.first(HANG, path="/version")
    server.always(HANG)
    before = len(server.requests)
    ends: list[object] = []

    def call() -> None:
        try:
            ends.append(CALLS[name](reranker))
        except RerankerError as error:
            ends.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SOON
    while len(server.requests) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    reranker.close()
    for thread in threads:
        thread.join(SOON)
    assert [type(end) for end in ends] == [ClosedError] * 4


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_reranker_raises(server: ScriptedServer, name: str) -> None:
    reranker = Reranker(base_url=server.url)
    reranker.close()
    reranker.close()
    with pytest.raises(ClosedError, match="closed: make a new one"):
        CALLS[name](reranker)
    assert server.requests == []


async def test_a_closed_scorer_raises_too(server: ScriptedServer) -> None:
    scorer = RemoteScorer(server.url)
    async with Reranker(scorer=scorer) as reranker:
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
    with pytest.raises(ClosedError):
        await scorer.score(QUERY, DOCUMENTS, None)


def test_closing_lets_the_connections_go(server: ScriptedServer) -> None:
    reranker = Reranker(base_url=server.url)
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert server.open_connections
    reranker.close()
    deadline = time.monotonic() + SOON
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server.open_connections
