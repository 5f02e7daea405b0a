"""Many queries: in order, as they are needed, and cancelled where nobody wants them any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineError, InputError, Reranker
from qwen3_reranker.streaming import window

from support.helpers import either
from support.length_scorer import LengthScorer, Pair, taken


@pytest.fixture
def scorer() -> LengthScorer:
    return LengthScorer()


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
def test_all_methods_give_the_same_results_as_single_queries(limit: int, pairs: list[Pair]) -> None:
    reranker = Reranker(scorer=LengthScorer())
    one_by_one = [reranker.rerank(*pair, top_n=3) for pair in pairs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "WINDOW", limit)
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
def test_a_query_larger_than_the_window_is_scored_alone(scorer: LengthScorer) -> None:
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


@pytest.mark.usefixtures("three")
async def test_a_query_that_has_just_begun_is_cancelled_too(scorer: LengthScorer) -> None:
    pairs = [("first", ["a", "b"]), ("second", ["a"]), ("wait", ["a", "b"])]
    stream: Any = Reranker(scorer=scorer).arerank_iter(pairs)
    await anext(stream)
    while asyncio.all_tasks() != {asyncio.current_task()}:  # one waits for the answer
        await asyncio.sleep(0.001)
    assert "second" in scorer.ended
    await anext(stream)  # begins "wait", and returns before this loop goes on
    while "wait" not in scorer.begun:
        time.sleep(0.001)  # noqa: ASYNC251  # this loop must not go on
    await stream.aclose()
    await cancelled(scorer, "wait")


async def test_a_canceled_consumer_cancels_the_rest(scorer: LengthScorer) -> None:
    reranker = Reranker(scorer=scorer)
    task = asyncio.create_task(taken(reranker.arerank_iter([("wait 1", ["x"]), ("wait 2", ["x"])])))
    while len(scorer.begun) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cancelled(scorer, "wait 1", "wait 2")


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


@pytest.mark.parametrize("wrong", [None, 3, (), ("q",), ("q", ["x"], {}), [], "q"])
@pytest.mark.parametrize("name", ["rerank_many", "arerank_many", "rerank_iter", "arerank_iter"])
async def test_what_is_not_a_pair_is_refused(scorer: LengthScorer, name: str, wrong: Any) -> None:
    pairs = [("q", ["x"]), wrong]
    with pytest.raises(InputError, match=r"give \(query, documents\)") as refused:
        await taken(await either(name)(Reranker(scorer=scorer), pairs))
    assert repr(wrong) in str(refused.value)


async def cancelled(scorer: LengthScorer, *queries: str) -> None:
    async with asyncio.timeout(5):
        while sorted(scorer.cancelled) != sorted(queries):
            await asyncio.sleep(0.01)
