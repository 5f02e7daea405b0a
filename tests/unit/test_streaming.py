"""Many queries: in order, as they are needed, and cancelled where nobody wants them any more."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineError, InputError, Prompt, Reranker, Scorer, Scores, streaming

from support.helpers import either

Pair = tuple[str, list[str]]


class LengthScorer(Scorer):
    """
    Scores a text by its length.

    A query that begins with "wait" is not scored until told; one that begins with "fail" fails once
    a "wait" is in progress; and "after 3" is scored once three queries have begun, itself included.
    """

    model = "length"

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.go_on = threading.Event()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.begun.append(query)
        try:
            while query.startswith("wait") and not self.go_on.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.append(query)
            raise
        if query.startswith("fail"):
            while not any(other.startswith("wait") for other in self.begun):
                await asyncio.sleep(0.001)
            raise EngineError(query)
        while query.startswith("after") and len(self.begun) < int(query.split()[1]):
            await asyncio.sleep(0.001)
        for _ in range(1 + hash(query) % 5):
            await asyncio.sleep(0)
        return Scores([len(text) / 100 for text in texts], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


@pytest.fixture
def scorer() -> LengthScorer:
    return LengthScorer()


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most three documents are under way."""
    monkeypatch.setattr(streaming, "WINDOW", 3)


async def taken(stream: Any) -> list[Any]:
    """Return all that a stream yields, sync or async."""
    if isinstance(stream, AsyncIterator):
        return [hits async for hits in stream]
    return list(stream)


async def apairs(pairs: list[Pair]) -> AsyncIterator[Pair]:
    for pair in pairs:
        await asyncio.sleep(0)
        yield pair


PAIRS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.lists(st.text("xy \n", max_size=4), max_size=6)),
    max_size=8,
)


@pytest.mark.parametrize("limit", [1, 3, 2048])
@given(pairs=PAIRS)
def test_all_ways_give_what_one_query_at_a_time_gives(limit: int, pairs: list[Pair]) -> None:
    reranker = Reranker(scorer=LengthScorer())
    one_by_one = [reranker.rerank(*pair, top_n=3) for pair in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "WINDOW", limit)
        assert list(reranker.rerank_iter(iter(pairs), top_n=3)) == one_by_one
        assert reranker.rerank_many(iter(pairs), top_n=3) == one_by_one

        async def awaited() -> None:
            assert await taken(reranker.arerank_iter(pairs, top_n=3)) == one_by_one
            assert await taken(reranker.arerank_iter(apairs(pairs), top_n=3)) == one_by_one
            assert await reranker.arerank_many(pairs, top_n=3) == one_by_one

        asyncio.run(awaited())


@pytest.mark.usefixtures("three")
async def test_pairs_are_taken_as_there_is_room(scorer: LengthScorer) -> None:
    asked: list[int] = []

    def pairs() -> Iterator[Pair]:
        for number in range(1000):
            asked.append(number)
            yield f"query {number}", ["a", "bb"]

    reranker = Reranker(scorer=scorer)
    stream = reranker.rerank_iter(pairs())
    assert asked == []
    next(stream)
    assert 1 <= len(asked) <= 2
    astream = reranker.arerank_iter(pairs())
    await anext(astream)
    assert len(asked) <= 4


@pytest.mark.usefixtures("three")
def test_what_is_larger_than_the_window_goes_alone(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    hits = reranker.rerank_iter([("one", ["x" * n for n in range(1, 11)]), ("two", ["x"])])
    assert [len(found) for found in hits] == [10, 1]


@pytest.mark.parametrize("call", [either("rerank_many"), either("arerank_many")])
async def test_a_failure_cancels_what_is_under_way(scorer: LengthScorer, call: Any) -> None:
    reranker = Reranker(scorer=scorer)
    with pytest.raises(EngineError, match="fail"):
        await call(reranker, [("a", ["x"]), ("fail", ["x"]), ("wait", ["x"])])
    await cancelled(scorer, "wait")


async def test_results_before_a_failure_are_kept(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    stream = reranker.rerank_iter([("a", ["x"]), ("fail", ["x"]), ("wait", ["x"])])
    assert [hit.text for hit in next(stream)] == ["x"]
    with pytest.raises(EngineError, match="fail"):
        next(stream)
    await cancelled(scorer, "wait")


async def test_a_consumer_that_stops_cancels_the_rest(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    stream: Any = reranker.rerank_iter([("after 3", ["x"]), ("wait 1", ["x"]), ("wait 2", ["x"])])
    next(stream)
    stream.close()
    await cancelled(scorer, "wait 1", "wait 2")
    astream: Any = reranker.arerank_iter([("after 5", ["x"]), ("wait 3", ["x"])])
    await anext(astream)
    await astream.aclose()
    await cancelled(scorer, "wait 1", "wait 2", "wait 3")


async def test_a_cancelled_consumer_cancels_the_rest(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    task = asyncio.create_task(taken(reranker.arerank_iter([("wait 1", ["x"]), ("wait 2", ["x"])])))
    while len(scorer.begun) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cancelled(scorer, "wait 1", "wait 2")


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


def test_limits_are_checked_at_once_and_pairs_as_they_come(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    for call in (reranker.rerank_iter, reranker.arerank_iter):
        with pytest.raises(InputError, match="top_n=0"):
            call([], top_n=0)
    pairs: list[Any] = [("a", ["x"]), ("b", [3])]
    stream = reranker.rerank_iter(pairs)
    with pytest.raises(InputError, match="document 0 is a int"):
        list(stream)
    scorer.begun.clear()
    with pytest.raises(InputError, match="document 0 is a int"):
        reranker.rerank_many(pairs)
    assert scorer.begun == []


async def cancelled(scorer: LengthScorer, *queries: str) -> None:
    async with asyncio.timeout(5):
        while sorted(scorer.cancelled) != sorted(queries):
            await asyncio.sleep(0.01)


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
