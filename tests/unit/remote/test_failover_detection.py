"""Several servers, some of which cannot be detected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from qwen3_reranker import (
    DetectionError,
    InputError,
    PromptTooLongError,
    Reranker,
    ServerUnavailableError,
    UnsupportedFeatureError,
)
from qwen3_reranker.remote import failover
from qwen3_reranker.remote.scorer import RemoteScorer

from support.helpers import INSTRUCTION
from support.scripted_server import (
    DOCUMENTS,
    HANG,
    QUERY,
    RIGHT,
    Pair,
    Reply,
    ScriptedServer,
    relevance,
    rerank,
)

pytestmark = pytest.mark.usefixtures("soon")

SOON = 20


def break_down(server: ScriptedServer, reply: Reply) -> None:
    """Let a server answer everything with the same reply."""
    server.script = dict.fromkeys(server.script, lambda _: reply)


@pytest.mark.parametrize(
    "failure",
    [
        Reply({"detail": "CUDA error: out of memory"}, 500),
        Reply({"detail": "no such model"}, 400),
        Reply({"data": []}),
        Reply(b"<html>It works!</html>"),
    ],
    ids=["500", "400", "no scores", "a page"],
)
async def test_the_work_of_a_server_that_cannot_be_detected_moves_on(
    pair: Pair, later: Callable[[float], None], failure: Reply
) -> None:
    broken, other = pair
    script = broken.script
    break_down(broken, failure)
    urls = [server.url for server in pair]
    async with Reranker(base_url=urls, timeout=SOON) as reranker:
        first = await asyncio.gather(*(reranker.ascore(QUERY, DOCUMENTS) for _ in range(10)))
        assert first == [RIGHT] * 10
        tried = len(broken.requests)
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert len(broken.requests) == tried  # it rests
        broken.script = script
        later(1.5)
        assert await reranker.ascore(QUERY, DOCUMENTS) == RIGHT
        assert DOCUMENTS[0] in str(broken.requests[-1].body)


async def test_calls_that_wait_for_one_detection_share_its_failure(pair: Pair) -> None:
    broken, other = pair
    break_down(broken, Reply({"detail": "broken"}, 500))
    async with Reranker(base_url=broken.url) as reranker:
        calls = (reranker.ascore(QUERY, DOCUMENTS) for _ in range(20))
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in found} == {DetectionError}
    assert len(broken.asked("/version")) == 1


def test_when_no_server_can_be_detected_each_is_named(pair: Pair) -> None:
    for server, why in zip(pair, ["no such model", "out of memory"], strict=True):
        break_down(server, Reply({"detail": why}, 500))
    with (
        Reranker(base_url=[server.url for server in pair]) as reranker,
        pytest.raises(DetectionError) as caught,
    ):
        reranker.score(QUERY, DOCUMENTS)
    message = str(caught.value)
    assert message.startswith("no server can be used (2 attempts in ")
    lines = message.splitlines()
    for server, why in zip(pair, ["no such model", "out of memory"], strict=True):
        assert any(line.startswith(f"- nothing at {server.url}") for line in lines)
        assert why in message


@pytest.mark.usefixtures("at_once")
def test_an_undetectable_server_is_named_beside_one_that_is_down(pair: Pair) -> None:
    broken, gone = pair
    break_down(broken, Reply({"detail": "broken"}, 500))
    gone.__exit__()
    with (
        Reranker(base_url=[server.url for server in pair]) as reranker,
        pytest.raises(ServerUnavailableError) as caught,
    ):
        reranker.score(QUERY, DOCUMENTS)
    gone.__enter__()
    assert f"- nothing at {broken.url}" in str(caught.value)
    assert f"- no connection to {gone.url}" in str(caught.value)


def test_one_server_that_cannot_be_detected_is_explained_as_it_is(pair: Pair) -> None:
    broken, _ = pair
    break_down(broken, Reply({"detail": "broken"}, 500))
    with Reranker(base_url=broken.url) as reranker, pytest.raises(DetectionError) as caught:
        reranker.score(QUERY, DOCUMENTS)
    assert str(caught.value).startswith(f"nothing at {broken.url}")


def limited(server: ScriptedServer, length: int) -> None:
    model = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": length}
    server.script["GET", "/v1/models"] = lambda _: Reply({"object": "list", "data": [model]})


def test_a_server_with_a_smaller_limit_than_max_length_is_left_for_another(pair: Pair) -> None:
    limited(pair[0], 512)
    urls = [server.url for server in pair]
    with Reranker(base_url=urls, max_length=1024, tokenizer="demo") as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        limited(pair[1], 256)
    settings: dict[str, Any] = {"max_length": 1024, "tokenizer": "demo", "on_error": "keep_order"}
    with Reranker(base_url=urls, **settings) as reranker, pytest.raises(InputError) as caught:
        reranker.rerank(QUERY, DOCUMENTS)
    assert str(caught.value).startswith("no server can be used (2 attempts in ")
    for url, limit in zip(urls, (512, 256), strict=True):
        assert f"{url} takes ({limit} tokens)" in str(caught.value)
    with (
        Reranker(base_url=urls[0], max_length=1024, tokenizer="demo") as reranker,
        pytest.raises(InputError, match="give 512 or less"),
    ):
        reranker.score(QUERY, DOCUMENTS)


def llama_cpp(server: ScriptedServer, slot: int = 2048) -> None:
    """As llama-server with slots of so many tokens. It has no field for an instruction."""
    props = {"default_generation_settings": {"n_ctx": slot}}
    server.script = {("GET", "/props"): lambda _: Reply(props), ("POST", "/v1/rerank"): rerank}


@pytest.mark.parametrize("slot", [16, 128])
def test_a_server_with_slots_that_are_too_small_is_left_for_another(pair: Pair, slot: int) -> None:
    llama_cpp(pair[0], slot)
    urls = [server.url for server in pair]
    with Reranker(base_url=urls, tokenizer="demo") as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    with (
        Reranker(base_url=urls[0], tokenizer="demo") as reranker,
        pytest.raises(InputError, match=f"{urls[0]} accepts only {slot} tokens"),
    ):
        reranker.score(QUERY, DOCUMENTS)


def test_a_query_that_is_too_long_for_one_server_is_scored_by_another(pair: Pair) -> None:
    limited(pair[0], 512)
    urls = [server.url for server in pair]
    query = "Where does the river begin? " * 90
    right = [relevance(query, document) for document in DOCUMENTS]
    scorer = RemoteScorer(urls, tokenizer="demo")
    with Reranker(scorer=scorer) as reranker:
        for _ in range(2):
            assert reranker.score(query, DOCUMENTS) == right
        stats = scorer.endpoint_stats()[urls[0]]
        assert (stats.failures, stats.backoff_seconds) == (0, 0.0)  # the server did nothing wrong
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert len(pair[0].asked()) == 3  # the probe, and the short query
    limited(pair[1], 256)
    with Reranker(base_url=urls, tokenizer="demo") as reranker:
        with pytest.raises(PromptTooLongError) as caught:
            reranker.score(query, DOCUMENTS)
        for url in urls:
            assert f"- {url}: no room for a document" in str(caught.value)
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT


def test_an_instruction_that_one_server_ignores_is_used_by_another(pair: Pair) -> None:
    llama_cpp(pair[0])
    urls = [server.url for server in pair]
    settings: dict[str, Any] = {"instruction": INSTRUCTION, "on_unsupported": "raise"}
    with Reranker(base_url=urls, **settings) as reranker:
        for _ in range(2):
            found = reranker.score(QUERY, DOCUMENTS)
            assert found == [relevance(QUERY, document, INSTRUCTION) for document in DOCUMENTS]
    llama_cpp(pair[1])
    with (
        Reranker(base_url=urls, **settings) as reranker,
        pytest.raises(UnsupportedFeatureError, match="no server can be used"),
    ):
        reranker.score(QUERY, DOCUMENTS)


@pytest.fixture
def one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of all attempts be up at the same moment, that of the first one."""
    deadlines: list[float] = []

    def timeout(seconds: float) -> asyncio.Timeout:
        deadlines.append(asyncio.get_running_loop().time() + seconds)
        return asyncio.timeout_at(deadlines[0])

    monkeypatch.setattr(failover, "asyncio", SimpleNamespace(timeout=timeout))


@pytest.mark.slow
@pytest.mark.usefixtures("one_deadline")
async def test_calls_that_wait_for_one_detection_share_its_silence(pair: Pair) -> None:
    silent, _ = pair
    silent.script = dict.fromkeys(silent.script, lambda _: HANG)
    async with Reranker(base_url=silent.url, timeout=1.5, max_retries=0) as reranker:
        calls = (reranker.ascore(QUERY, DOCUMENTS) for _ in range(10))
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in found} == {ServerUnavailableError}
    assert len(silent.asked("/version")) == 1
