"""Several servers that serve the same model: who gets the work, and who takes it over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qwen3_reranker import Reranker, ServerError, ServerUnavailableError, background
from qwen3_reranker.scorers import failover
from qwen3_reranker.scorers.transport import RetryableError

from scripted_server import HANG, Reply, ScriptedServer, but, classify, relevance

QUERY = "Where does the river begin?"
DOCUMENTS = [f"The river number {i} begins in the hills." for i in range(7)]
RIGHT = [relevance(QUERY, document) for document in DOCUMENTS]
SOON = 20
Pair = tuple[ScriptedServer, ScriptedServer]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ScriptedServer() as first, ScriptedServer() as second:
        yield first, second


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON


def over(*servers: ScriptedServer, **settings: Any) -> Reranker:
    """Return a reranker that has found all of the servers out."""
    settings = {"timeout": SOON, **settings}
    reranker = Reranker(base_url=[server.url for server in servers], **settings)
    for endpoint in reranker._scorer._endpoints:  # type: ignore[attr-defined]
        background.run(endpoint.settle())
    for server in servers:
        server.requests.clear()
    return reranker


def shares(*servers: ScriptedServer) -> list[int]:
    return [len(server.asked()) for server in servers]


@pytest.mark.parametrize("tokenizer", [None, "demo"])
async def test_the_least_busy_server_gets_a_request(pair: Pair, tokenizer: str | None) -> None:
    for server in pair:
        server.always(but(wait=0.3))
    async with over(*pair, tokenizer=tokenizer) as reranker:
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
    assert found == [RIGHT] * 10
    assert shares(*pair) == [5, 5]


async def test_a_slow_server_gets_less(pair: Pair) -> None:
    pair[0].always(but(wait=1.5))
    async with over(*pair, max_concurrency=4) as reranker:
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(20)))
    assert found == [RIGHT] * 20
    assert shares(*pair)[0] <= 4


FAILURES: dict[str, Reply] = {
    "503": Reply({"message": "loading"}, 503),
    "429, to come back tomorrow": Reply({}, 429, {"Retry-After": "86400"}),
    "500": Reply({"message": "CUDA error"}, 500),
    "cut off": Reply(reset_after=0),
    "a page": Reply(b"<html>maintenance</html>"),
}


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("name", FAILURES)
async def test_the_work_of_a_failing_server_moves_on(pair: Pair, name: str, retries: int) -> None:
    broken, other = pair
    async with over(*pair, max_retries=retries) as reranker:
        broken.always(FAILURES[name])
        found = [await reranker.ascore(QUERY, DOCUMENTS) for _ in range(4)]
    assert found == [RIGHT] * 4
    assert shares(broken, other) == [1, 4]  # the others came while it rested


async def test_a_burst_of_failures_counts_as_one(pair: Pair) -> None:
    broken, _ = pair
    async with over(*pair) as reranker:
        broken.always(but(wait=0.5, status=503))
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(20)))
        assert found == [RIGHT] * 20
        broken.always(classify)
        async with asyncio.timeout(10):  # not the minute after many failures
            while len(broken.asked()) == 10:
                assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
                await asyncio.sleep(0.1)


async def test_a_server_that_hangs_is_left_after_its_timeout(pair: Pair) -> None:
    silent, other = pair
    async with over(*pair, timeout=1.5) as reranker:
        silent.always(HANG)
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
        assert found == [RIGHT] * 10
        assert shares(silent, other) == [5, 10]
        async with asyncio.timeout(10):
            while len(silent.dropped) < 5:
                await asyncio.sleep(0.05)


async def test_many_first_calls_leave_a_server_that_hangs(pair: Pair) -> None:
    silent, _ = pair
    silent.script = dict.fromkeys(silent.script, lambda _: HANG)
    urls = [server.url for server in pair]
    async with Reranker(base_url=urls, timeout=2.5) as reranker:
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
    assert found == [RIGHT] * 10


async def test_a_server_that_is_gone_is_used_again_when_it_is_back(pair: Pair) -> None:
    gone, other = pair
    async with over(*pair) as reranker:
        gone.__exit__()
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert shares(gone, other) == [0, 1]
        with gone:
            async with asyncio.timeout(10):
                while not gone.asked():
                    assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
                    await asyncio.sleep(0.1)


async def test_the_rest_grows_with_every_failure(pair: Pair) -> None:
    async with over(*pair) as reranker:
        endpoint = reranker._scorer._endpoints[0]  # type: ignore[attr-defined]
        rests = []
        for _ in range(9):
            endpoint.rests_until = 0.0
            endpoint.fail(RetryableError("busy", 503))
            rests.append(round(endpoint.rests_until - time.monotonic()))
        assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        endpoint.fail(RetryableError("busy", 503, after=100))
        assert endpoint.rests_until > time.monotonic() + 90
        for server in pair:
            server.requests.clear()
        pair[1].first(Reply(b"", 503))
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert shares(*pair) == [1, 1]
        assert endpoint.rests_until == 0.0


@pytest.mark.parametrize("retries", [0, 2])
def test_when_all_fail_each_is_named(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setattr(failover, "_backoff", lambda _: 0.01)
    with ScriptedServer() as gone:
        reranker = over(*pair, gone, max_retries=retries)
    pair[0].always(Reply({"detail": "loading the model"}, 503))
    pair[1].always(Reply({"error": "CUDA error"}, 500))
    with reranker, pytest.raises(ServerUnavailableError) as caught:
        reranker.score(QUERY, DOCUMENTS)
    message = str(caught.value)
    assert message.startswith("no server answered (")
    assert len(message.splitlines()) == 4
    urls = [server.url for server in (*pair, gone)]
    for url, why in zip(urls, ["loading the model", "CUDA error", "no connection"], strict=True):
        assert any(url in line and why in line for line in message.splitlines())


def test_none_is_asked_more_often_than_it_may_be(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "_backoff", lambda _: 0.01)
    with over(*pair, max_retries=2) as reranker:
        pair[0].always(Reply(b"", 503))
        pair[1].always(Reply(b"", 502, {"Retry-After": "0.1"}))
        for rests in (1, 0):  # the first time one of them failed before
            reranker._scorer._endpoints[0].rests_until *= rests  # type: ignore[attr-defined]
            for server in pair:
                server.requests.clear()
            with pytest.raises(ServerUnavailableError, match="6 attempts"):
                reranker.score(QUERY, DOCUMENTS)
            assert shares(*pair) == [3, 3]


def test_all_hang(pair: Pair) -> None:
    with over(*pair, timeout=1.0) as reranker:
        for server in pair:
            server.always(HANG)
        with pytest.raises(ServerUnavailableError) as caught:
            reranker.score(QUERY, DOCUMENTS)
    for server in pair:
        assert f"{server.url} gave no answer within 1 s" in str(caught.value)
    assert shares(*pair) == [1, 1]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_by_one_is_not_taken_to_the_other(pair: Pair, status: int) -> None:
    with over(*pair) as reranker:
        pair[0].always(Reply({"error": "Unauthorized"}, status))
        with pytest.raises(ServerError, match=f"{status}: Unauthorized") as caught:
            reranker.score(QUERY, DOCUMENTS)
    assert caught.value.status == status
    assert shares(*pair) == [1, 0]


def test_one_url_twice_is_one_server(pair: Pair) -> None:
    with over(pair[0], pair[0]) as reranker:
        assert reranker.describe().count("http") == 1
