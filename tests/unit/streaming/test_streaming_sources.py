"""The source of a stream of queries: iterated as needed, in one task or thread, and closed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from qwen3_reranker import InputError, Reranker

from support.length_scorer import LengthScorer, Pair, taken


@pytest.fixture
def scorer() -> LengthScorer:
    return LengthScorer()


# A source that waits for what the consumer does with a result must not hold that result back.


def test_a_ready_result_does_not_wait_for_the_next_pair(scorer: LengthScorer) -> None:
    taken = threading.Event()

    def pairs() -> Iterator[Pair]:
        yield "a", ["x"]
        assert taken.wait(10), "the first result was held back"
        yield "b", ["yy"]

    stream = Reranker(scorer=scorer).rerank_iter(pairs())
    assert [hit.text for hit in next(stream)] == ["x"]
    taken.set()
    assert [[hit.text for hit in hits] for hits in stream] == [["yy"]]


async def test_an_awaited_result_does_not_wait_for_the_next_pair(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    taken = asyncio.Event()
    blocked = threading.Event()

    async def apairs() -> AsyncIterator[Pair]:
        yield "a", ["x"]
        async with asyncio.timeout(10):
            await taken.wait()
        yield "b", ["yy"]

    def pairs() -> Iterator[Pair]:
        yield "a", ["x"]
        assert blocked.wait(10), "the first result was held back"
        yield "b", ["yy"]

    for source in (apairs(), pairs()):
        stream = reranker.arerank_iter(source)
        assert [hit.text for hit in await anext(stream)] == ["x"]
        taken.set()
        blocked.set()
        assert [[hit.text for hit in hits] async for hits in stream] == [["yy"]]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("documents", [[], ["", " "]])
async def test_pairs_without_text_fill_the_window(
    scorer: LengthScorer, documents: list[str]
) -> None:
    asked: list[int] = []

    def pairs() -> Iterator[Pair]:
        yield "wait", ["x"]
        for number in range(1000):
            asked.append(number)
            yield f"query {number}", documents

    async def apairs() -> AsyncIterator[Pair]:
        for pair in pairs():
            yield pair

    reranker = Reranker(scorer=scorer)
    for stream in (reranker.arerank_iter(apairs()), reranker.arerank_iter(pairs())):
        asked.clear()
        scorer.go_on.clear()
        first = asyncio.ensure_future(anext(stream))
        async with asyncio.timeout(10):
            while len(asked) < 3 - len(documents):
                await asyncio.sleep(0.001)
        scorer.go_on.set()
        assert [hit.text for hit in await first] == ["x"]
        assert len(asked) <= 4
        assert sum([1 async for _ in stream]) == 1000


@pytest.mark.parametrize("source", ["thread", "task", "list"])
async def test_errors_of_the_source_come_in_their_turn(scorer: LengthScorer, source: str) -> None:
    def pairs() -> Iterator[Any]:
        yield "a", ["x"]
        yield "b", ["yy"]
        if source == "list":
            yield "c", [3]
        raise OSError("the disk is gone")

    async def apairs() -> AsyncIterator[Any]:
        for pair in pairs():
            yield pair

    sources: dict[str, Any] = {"thread": pairs(), "task": apairs()}
    sources["list"] = [("a", ["x"]), ("b", ["yy"]), ("c", [3])]
    stream = Reranker(scorer=scorer).arerank_iter(sources[source])
    texts = []
    with pytest.raises((OSError, InputError), match="the disk is gone|document 0 is a int"):
        async for hits in stream:
            texts += [hit.text for hit in hits]
    assert texts == ["x", "yy"]


async def test_results_come_before_the_cancellation_of_their_source(scorer: LengthScorer) -> None:
    async def apairs() -> AsyncIterator[Pair]:
        yield "wait", ["x"]
        yield "b", ["yy"]
        scorer.go_on.set()
        raise asyncio.CancelledError

    texts = []
    with pytest.raises(asyncio.CancelledError):
        async for hits in Reranker(scorer=scorer).arerank_iter(apairs()):
            texts += [hit.text for hit in hits]
    assert texts == ["x", "yy"]


@pytest.mark.usefixtures("three")
async def test_a_source_that_cancels_itself_ends_the_stream(scorer: LengthScorer) -> None:
    async def apairs() -> AsyncIterator[Pair]:
        yield "a", ["x"]
        lookup = asyncio.ensure_future(asyncio.sleep(60))
        lookup.cancel()
        await lookup

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await taken(Reranker(scorer=scorer).arerank_iter(apairs()))


async def test_a_source_runs_in_one_task_or_thread_with_the_callers_context(
    scorer: LengthScorer,
) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    tenant.set("acme")
    seen: list[Any] = []

    def pairs() -> Iterator[Pair]:
        for number in range(9):
            seen.append((threading.get_ident(), tenant.get()))
            yield f"query {number}", ["x"]

    async def apairs() -> AsyncIterator[Pair]:
        async with asyncio.timeout(10):  # which only the task that entered it can leave
            for number in range(9):
                seen.append((asyncio.current_task(), tenant.get()))
                yield f"query {number}", ["x"]

    reranker = Reranker(scorer=scorer)
    for source in (pairs(), apairs()):
        seen.clear()
        assert len(await taken(reranker.arerank_iter(source))) == 9
        assert len(seen) == 9
        assert {context for _, context in seen} == {"acme"}
        assert len({place for place, _ in seen}) == 1


# Not those of objects that other tests have left to the garbage collector.
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
async def test_an_abandoned_stream_stops_its_source(
    scorer: LengthScorer, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []
    gate = threading.Event()

    def pairs() -> Iterator[Pair]:
        try:
            yield "a", ["x"]
            if not gate.wait(10):
                ended.append("closing waited for the next pair")
            yield "b", ["x"]
            raise AssertionError("nobody asked for more")
        finally:
            ended.append("thread")

    async def apairs() -> AsyncIterator[Pair]:
        try:
            yield "a", ["x"]
            await asyncio.sleep(60)
        finally:
            ended.append("task")

    reranker = Reranker(scorer=scorer)
    for source in (pairs(), apairs()):
        stream: Any = reranker.arerank_iter(source)
        await anext(stream)
        await stream.aclose()
    sync_stream: Any = reranker.rerank_iter(pairs())
    next(sync_stream)
    sync_stream.close()  # does not wait for the next pair
    gate.set()
    del source, stream, sync_stream
    async with asyncio.timeout(10):
        while sorted(ended) != ["task", "thread", "thread"]:
            await asyncio.sleep(0.01)
    gc.collect()
    assert caplog.text == ""


class Refusing:
    def __iter__(self) -> Iterator[Pair]:
        raise OSError("not connected")


class ARefusing:
    def __aiter__(self) -> AsyncIterator[Pair]:
        raise OSError("not connected")


class Mistaken:
    async def __aiter__(self) -> AsyncIterator[Pair]:
        raise AssertionError("nobody awaits this")


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize(
    ("call", "source", "error", "message"),
    [
        ("rerank_iter", None, TypeError, "'NoneType' object is not iterable"),
        ("rerank_iter", 3, TypeError, "'int' object is not iterable"),
        ("rerank_iter", Refusing(), OSError, "not connected"),
        ("arerank_iter", None, TypeError, "'NoneType' object is not iterable"),
        ("arerank_iter", Refusing(), OSError, "not connected"),
        ("arerank_iter", ARefusing(), OSError, "not connected"),
        ("arerank_iter", Mistaken(), TypeError, "coroutine"),
    ],
)
async def test_a_source_that_cannot_be_iterated_raises(
    scorer: LengthScorer, call: str, source: Any, error: type[Exception], message: str
) -> None:
    stream = getattr(Reranker(scorer=scorer), call)(source)
    listing = taken(stream) if call.startswith("a") else asyncio.to_thread(lambda: list(stream))
    with pytest.raises(error, match=message):
        await asyncio.wait_for(listing, 10)
