"""What calls cost: the usage of one call, and the statistics of a reranker."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EndpointUsage, Hit, Ranking, Reranker, RerankerWarning, Stats, Usage
from qwen3_reranker.errors import EngineError, InputError
from qwen3_reranker.scorer import Passage, Scores, joined

from support.helpers import AnsweringScorer, FaultyScorer, either

numbers = st.integers(0, 2**40)
# Sums of these are exact, in any order.
seconds = st.integers(0, 2**20).map(lambda n: n / 1024)
endpoint_usages = st.builds(EndpointUsage, numbers, numbers, numbers, seconds)
usages = st.builds(
    Usage,
    *[numbers] * 11,
    *[seconds] * 4,
    st.dictionaries(st.sampled_from(["http://a", "http://b"]), endpoint_usages),
)
CALLS: list[Callable[..., Any]] = [either("rerank"), either("arerank")]


class CountingScorer(AnsweringScorer):
    """Says what its scores cost, and truncates texts of more than 20 characters."""

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        tokens = sum(map(len, texts))
        usage = Usage(scored=len(texts), tokens=tokens, tokenizing_seconds=0.25, scoring_seconds=1)
        return Scores([0.5] * len(texts), [len(text) > 20 for text in texts], usage=usage)


@given(st.lists(usages))
def test_usage_adds_up_in_every_field(parts: list[Usage]) -> None:
    total = asdict(sum(parts, Usage()))
    endpoints = total.pop("endpoints")
    assert total == {name: sum(getattr(part, name) for part in parts) for name in total}
    assert endpoints.keys() == {url for part in parts for url in part.endpoints}
    for url, usage in endpoints.items():
        here = [asdict(part.endpoints[url]) for part in parts if url in part.endpoints]
        assert usage == {name: sum(each[name] for each in here) for name in usage}


@given(usages)
def test_usage_is_data(usage: Usage) -> None:
    assert json.loads(json.dumps(asdict(usage))) == asdict(usage)
    assert pickle.loads(pickle.dumps(usage)) == copy.deepcopy(usage) == usage
    with pytest.raises(AttributeError):
        usage.tokens = 1  # type: ignore[misc]


def test_usage_of_another_kind_is_not_added() -> None:
    with pytest.raises(TypeError):
        Usage() + EndpointUsage()  # type: ignore[operator]


def test_the_repr_shows_what_there_is() -> None:
    assert repr(Usage()) == "Usage()"
    usage = Usage(queries=2, seconds=0.123456, endpoints={"http://a": EndpointUsage(requests=1)})
    assert repr(usage) == (
        "Usage(queries=2, seconds=0.1235, endpoints={'http://a': EndpointUsage(requests=1)})"
    )


def test_joined_scores_have_the_usage_of_all_parts() -> None:
    parts = [Scores([0.5], [False], usage=Usage(tokens=n)) for n in (1, 2)]
    assert joined(parts, Usage(waiting_seconds=3)).usage == Usage(tokens=3, waiting_seconds=3)


def test_a_ranking_is_a_list() -> None:
    hits = [Hit(0, 0.5, "a", logit=0.0), Hit(1, 0.25, "b", logit=-1.1)]
    ranking = Ranking(hits, Usage(tokens=3))
    assert ranking == hits
    assert repr(ranking) == repr(hits)
    for same in (pickle.loads(pickle.dumps(ranking)), copy.copy(ranking), copy.deepcopy(ranking)):
        assert (type(same), same, same.usage) == (Ranking, hits, Usage(tokens=3))


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_says_what_it_cost(call: Callable[..., Any]) -> None:
    documents = ["twelve chars", "a text of 23 characters", "twelve chars", " "]
    with Reranker(scorer=CountingScorer()) as reranker:
        ranking = await call(reranker, "query", documents, top_n=1)
    usage = ranking.usage
    assert len(ranking) == 1
    assert usage.seconds > 0
    assert usage == Usage(
        queries=1,
        documents=4,
        scored=2,
        truncated=1,
        tokens=35,
        seconds=usage.seconds,
        tokenizing_seconds=0.25,
        scoring_seconds=1,
    )


async def test_stats_add_up_the_calls_of_every_method() -> None:
    pairs = [("query", ["a", "b"]), ("query", ["c"])]
    with Reranker(scorer=CountingScorer()) as reranker, Reranker(scorer=CountingScorer()) as other:
        assert reranker.stats() == Stats()
        rankings: list[Ranking] = [
            reranker.rerank("query", ["a", "b"]),
            await reranker.arerank("query", ["a", "b"]),
            *reranker.rerank_many(pairs),
            *await reranker.arerank_many(pairs),
            *reranker.rerank_iter(pairs),
            *[ranking async for ranking in reranker.arerank_iter(pairs)],
            reranker.rerank("query", []),
        ]
        total = sum((ranking.usage for ranking in rankings), Usage())
        stats = asdict(reranker.stats())
        assert stats.pop("endpoints") == stats.pop("engines") == {}
        assert stats == pytest.approx({name: getattr(total, name) for name in stats})
        assert (total.queries, total.documents, total.tokens) == (11, 16, 16)
        before = reranker.stats()
        reranker.score("query", ["abc"])
        await reranker.ascore("query", ["abc"])
        assert reranker.stats().tokens == before.tokens + 6
        assert reranker.stats().queries == before.queries + 2
        assert before.queries == 11
        assert other.stats() == Stats()
    assert reranker.stats().queries == 13


async def test_passages_are_counted() -> None:
    class PassageScorer(CountingScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            passages = [Passage(0, 1, 0.5, count=3) for _ in texts]
            return Scores([0.5] * len(texts), [False] * len(texts), passages=passages)

    with Reranker(scorer=PassageScorer()) as reranker:
        assert reranker.rerank("query", ["a", "b", "a"]).usage.passages == 6
        assert reranker.stats().passages == 6


@pytest.mark.parametrize("call", CALLS)
async def test_failures_are_counted(call: Callable[..., Any]) -> None:
    with Reranker(scorer=FaultyScorer(EngineError("died"))) as reranker:
        with pytest.raises(EngineError):
            await call(reranker, "query", ["a", "b"])
        with pytest.raises(InputError):
            await call(reranker, " ", ["a"])
        stats = reranker.stats()
        assert stats.seconds > 0
        assert stats == Stats(queries=1, failures=1, documents=2, seconds=stats.seconds)
    patient = Reranker(scorer=FaultyScorer(EngineError("died")), on_error="keep_order")
    with patient, pytest.warns(RerankerWarning):
        ranking = await call(patient, "query", ["a", "b", "c"], top_n=1)
    assert ranking.usage.seconds > 0
    assert ranking.usage == Usage(queries=1, failures=1, documents=3, seconds=ranking.usage.seconds)
    assert patient.stats() == Stats(**asdict(ranking.usage))


async def test_a_canceled_call_is_not_counted() -> None:
    scorer = FaultyScorer()
    with Reranker(scorer=scorer) as reranker:
        task = asyncio.create_task(reranker.arerank("query", ["a"]))
        assert await asyncio.to_thread(scorer.waiting.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(scorer.cancelled.wait, 10)
        assert reranker.stats() == Stats()


def test_what_the_cache_has_is_counted_as_cached() -> None:
    class CachedCounting(CountingScorer):
        async def fingerprint(self) -> str:
            return "counting"

    with Reranker(scorer=CachedCounting(), cache={}) as reranker:
        first = reranker.rerank("query", ["a", "b", "a text of 23 characters"]).usage
        second = reranker.rerank("query", ["a", "a", "b", "c", "a text of 23 characters"]).usage
    assert (first.scored, first.cached, first.tokens, first.truncated) == (3, 0, 25, 1)
    assert (second.scored, second.cached, second.tokens, second.truncated) == (1, 3, 1, 1)
    assert second.scoring_seconds == 1


async def test_many_threads_are_counted_exactly() -> None:
    with Reranker(scorer=CountingScorer()) as reranker:
        calls = (asyncio.to_thread(reranker.rerank, "query", ["abc"]) for _ in range(50))
        await asyncio.gather(*calls)
        assert (reranker.stats().queries, reranker.stats().tokens) == (50, 150)
