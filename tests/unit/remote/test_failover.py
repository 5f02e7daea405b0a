"""Several servers that serve the same model: who gets the work, and who takes it over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import (
    AnswerError,
    Reranker,
    ServerError,
    ServerUnavailableError,
    event_loop,
)
from qwen3_reranker.remote.endpoint import backoff_seconds
from qwen3_reranker.remote.responses import RetryableError
from qwen3_reranker.remote.scorer import RemoteScorer

from support.scripted_server import (
    DOCUMENTS,
    HANG,
    QUERY,
    RIGHT,
    Pair,
    Reply,
    ScriptedServer,
    but,
    classify,
)

pytestmark = pytest.mark.usefixtures("soon")

SOON = 20


def detected(*servers: ScriptedServer, **options: Any) -> RemoteScorer:
    """Return a scorer that has detected all of the servers."""
    options = {"timeout": SOON, **options}
    scorer = RemoteScorer([server.url for server in servers], **options)
    for endpoint in scorer.endpoints:
        event_loop.run(endpoint.resolve())
    for server in servers:
        server.requests.clear()
    return scorer


def over(*servers: ScriptedServer, **options: Any) -> Reranker:
    """Return a reranker that has detected all of the servers."""
    return Reranker(scorer=detected(*servers, **options))


def shares(*servers: ScriptedServer) -> list[int]:
    return [len(server.asked()) for server in servers]


async def received(requests: int, *servers: ScriptedServer) -> None:
    """Wait until the servers together have received so many requests for scores."""
    async with asyncio.timeout(SOON):
        while sum(shares(*servers)) < requests:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("tokenizer", [None, "demo"])
async def test_the_least_busy_server_gets_a_request(pair: Pair, tokenizer: str | None) -> None:
    release = threading.Event()
    async with over(*pair, tokenizer=tokenizer) as reranker:
        for server in pair:
            server.always(but(hold=release))
        calls = asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
        await received(10, *pair)
        release.set()
        assert await calls == [RIGHT] * 10
    assert shares(*pair) == [5, 5]


async def test_a_slow_server_gets_less(pair: Pair) -> None:
    slow, other = pair
    release = threading.Event()
    async with over(*pair, max_concurrency=4) as reranker:
        slow.always(but(hold=release))
        calls = asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(20)))
        await received(16, other)
        release.set()
        assert await calls == [RIGHT] * 20
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


async def test_a_burst_of_failures_counts_as_one(
    pair: Pair, later: Callable[[float], None]
) -> None:
    broken, other = pair
    release = threading.Event()
    async with over(*pair) as reranker:
        for server, status in ((broken, 503), (other, 200)):
            server.always(but(hold=release, status=status))
        calls = asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(20)))
        await received(20, *pair)
        release.set()
        assert await calls == [RIGHT] * 20
        assert len(broken.asked()) == 10
        broken.always(classify)
        later(1.5)  # not the minute after many failures
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert len(broken.asked()) == 11


@pytest.mark.slow
async def test_a_server_that_hangs_is_abandoned_after_its_timeout(pair: Pair) -> None:
    silent, other = pair
    async with over(*pair, timeout=1) as reranker:
        silent.always(HANG)
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
        assert found == [RIGHT] * 10
        assert shares(silent, other) == [5, 10]
        async with asyncio.timeout(10):
            while len(silent.dropped) < 5:
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_many_first_calls_abandon_a_server_that_hangs(pair: Pair) -> None:
    silent, _ = pair
    silent.script = dict.fromkeys(silent.script, lambda _: HANG)
    urls = [server.url for server in pair]
    async with Reranker(base_url=urls, timeout=1.5) as reranker:
        found = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
    assert found == [RIGHT] * 10


async def test_a_server_that_is_gone_is_used_again_when_it_is_back(
    pair: Pair, later: Callable[[float], None]
) -> None:
    gone, other = pair
    async with over(*pair) as reranker:
        gone.__exit__()
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert shares(gone, other) == [0, 1]
        with gone:
            later(1.5)
            assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
            assert gone.asked()


async def test_the_backoff_grows_with_every_failure(pair: Pair) -> None:
    scorer = detected(*pair)
    endpoint = scorer.endpoints[0]
    async with Reranker(scorer=scorer) as reranker:
        seconds = []
        for _ in range(9):
            endpoint.backoff_until = 0.0
            endpoint.fail(RetryableError("busy", 503))
            seconds.append(round(endpoint.backoff_until - time.monotonic()))
        assert seconds == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        endpoint.fail(RetryableError("busy", 503, after=100))
        assert endpoint.backoff_until > time.monotonic() + 90
        for server in pair:
            server.requests.clear()
        pair[1].first(Reply(b"", 503))
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert shares(*pair) == [1, 1]
        assert endpoint.backoff_until == 0.0


async def test_a_server_that_is_dead_for_a_day_fails_no_request(
    pair: Pair, later: Callable[[float], None]
) -> None:
    gone, other = pair
    scorer = detected(*pair, max_retries=0)
    endpoint = scorer.endpoints[0]
    async with Reranker(scorer=scorer) as reranker:
        gone.__exit__()
        for _ in range(1100):  # as it fails every time that its back-off is over
            later(61)
            endpoint.fail(RetryableError("no connection"))
        for _ in range(5):
            later(61)
            assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        gone.__enter__()
        later(61)
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
    assert shares(gone, other) == [3, 5]  # two of them to detect it again


@settings(derandomize=True)
@given(failures=st.integers(1, 10**9), after=st.none() | st.floats(0, 3600))
def test_a_backoff_ends_within_an_hour(failures: int, after: float | None) -> None:
    assert 1 <= backoff_seconds(failures) <= 60
    endpoint = RemoteScorer("http://h").endpoints[0]
    endpoint.fail(RetryableError("busy", 503, after=after))
    assert endpoint.backoff_until <= time.monotonic() + 3600


@pytest.mark.parametrize("header", ["inf", "1e400", "1e12", "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_no_retry_after_keeps_a_server_out_for_ever(
    pair: Pair, later: Callable[[float], None], header: str
) -> None:
    broken, _ = pair
    async with over(*pair) as reranker:
        broken.first(Reply({"message": "slow down"}, 429, {"Retry-After": header}))
        for _ in range(2):
            assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert len(broken.asked()) == 1
        later(3601)
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
    assert len(broken.asked()) == 2


# When all fail


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("retries", [0, 2])
def test_when_all_fail_each_is_named(pair: Pair, retries: int) -> None:
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


@pytest.mark.usefixtures("at_once")
def test_no_server_gets_more_requests_than_its_limit(pair: Pair) -> None:
    scorer = detected(*pair, max_retries=2)
    with Reranker(scorer=scorer) as reranker:
        pair[0].always(Reply(b"", 503))
        pair[1].always(Reply(b"", 502, {"Retry-After": "0.1"}))
        for factor in (1, 0):  # without a back-off and with one
            scorer.endpoints[0].backoff_until *= factor
            for server in pair:
                server.requests.clear()
            with pytest.raises(ServerUnavailableError, match="6 attempts"):
                reranker.score(QUERY, DOCUMENTS)
            assert shares(*pair) == [3, 3]


@pytest.mark.slow
def test_all_servers_hang(pair: Pair) -> None:
    with over(*pair, timeout=1.0) as reranker:
        for server in pair:
            server.always(HANG)
        with pytest.raises(ServerUnavailableError) as caught:
            reranker.score(QUERY, DOCUMENTS)
    for server in pair:
        assert f"{server.url} gave no answer within 1 s" in str(caught.value)
    assert shares(*pair) == [1, 1]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_by_one_server_is_not_sent_to_another(pair: Pair, status: int) -> None:
    with over(*pair) as reranker:
        pair[0].always(Reply({"error": "Unauthorized"}, status))
        with pytest.raises(ServerError, match=f"{status}: Unauthorized") as caught:
            reranker.score(QUERY, DOCUMENTS)
    assert caught.value.status == status
    assert shares(*pair) == [1, 0]


UNFIT: dict[str, Reply] = {
    "401": Reply({"error": "Unauthorized"}, 401),
    "403": Reply({"error": "Forbidden"}, 403),
    "no scores": Reply({"data": "none"}),
    "log-odds": Reply({"data": [{"index": i, "probs": [-7.0]} for i in range(7)]}),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_server_that_refuses_the_key_or_answers_no_scores_is_left_for_another(
    pair: Pair, name: str
) -> None:
    with over(*pair) as reranker:
        pair[0].always(UNFIT[name])
        for _ in range(3):
            assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert shares(*pair) == [1, 3]
        pair[1].always(UNFIT[name])
        with pytest.raises((ServerError, AnswerError)) as caught:
            reranker.score(QUERY, DOCUMENTS)
        assert str(caught.value).startswith("no server can be used (2 attempts in ")
        for server in pair:
            assert server.url in str(caught.value)
    pair[0].always(classify)
    with over(pair[0]) as reranker:
        pair[0].always(UNFIT[name])
        with pytest.raises((ServerError, AnswerError)) as alone:
            reranker.score(QUERY, DOCUMENTS)
        # All servers together fail as each of them does.
        assert type(caught.value) is type(alone.value) in (ServerError, AnswerError)
        assert getattr(caught.value, "status", None) == getattr(alone.value, "status", None)


def test_one_url_twice_is_one_server(pair: Pair) -> None:
    url = pair[0].url
    scorer = RemoteScorer([url, f"{url}/", url.upper(), url])
    with Reranker(scorer=scorer) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert reranker.describe().count("http") == 1
        assert scorer.endpoint_stats()[url].requests == 1
