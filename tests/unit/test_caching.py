"""Scores that are remembered: the same as computed ones, and asked for once."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
import pytest
from cachetools import LRUCache
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import (
    InputError,
    Prompt,
    Reranker,
    RerankerWarning,
    ScoreError,
    Scorer,
    Scores,
    Usage,
)
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.adapters import rerank_texts
from support.helpers import SETTINGS, AnsweringScorer, FaultyScorer, either
from support.scripted_server import Reply, Request, ScriptedServer, relevance

DOCUMENTS = ["a river", "the sea", "", "a river", "a spring in the hills"]


class Counting(Scorer):
    """Scores by what it is asked, and counts the texts."""

    model = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.asked += texts
        values = [relevance(query, text, instruction) for text in texts]
        return Scores(values, [len(text) > 8 for text in texts])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return Prompt(query + document, [], truncated=False)

    async def fingerprint(self) -> str:
        return "relevance"


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_cached_scores_are_not_requested_again(call: Any) -> None:
    scorer = Counting()
    reranker = Reranker(scorer=scorer, cache={})
    plain = Reranker(scorer=Counting())
    first = await call(reranker, "where?", DOCUMENTS)
    assert first == await call(plain, "where?", DOCUMENTS)
    assert sorted(scorer.asked) == sorted({*DOCUMENTS} - {""})
    assert await call(reranker, "where?", ["new", *DOCUMENTS], top_n=9) == await call(
        plain, "where?", ["new", *DOCUMENTS], top_n=9
    )
    assert scorer.asked[3:] == ["new"]


TEXTS = st.lists(st.text("ab", max_size=3), max_size=6)
CALLS = st.lists(
    st.tuples(st.text("ab", min_size=1, max_size=3), TEXTS, st.sampled_from([None, "a", "b"])),
    max_size=6,
)


@given(CALLS)
def test_a_cache_never_confuses_two_calls(calls: list[tuple[str, list[str], str | None]]) -> None:
    reranker = Reranker(scorer=Counting(), cache={})
    plain = Reranker(scorer=Counting())
    for query, texts, instruction in calls:
        assert reranker.score(query, texts, instruction=instruction) == plain.score(
            query, texts, instruction=instruction
        )


def test_memory_and_disk(tmp_path: Path) -> None:
    right = Reranker(scorer=Counting()).rerank("where?", DOCUMENTS)
    with diskcache.Cache(str(tmp_path)) as disk:
        caches: list[Any] = [{}, LRUCache(1000), disk]
        for cache in caches:
            assert Reranker(scorer=Counting(), cache=cache).rerank("where?", DOCUMENTS) == right
            another = Counting()
            assert Reranker(scorer=another, cache=cache).rerank("where?", DOCUMENTS) == right
            assert another.asked == []
    with diskcache.Cache(str(tmp_path)) as disk:  # as the next process finds it
        later = Counting()
        assert Reranker(scorer=later, cache=disk).rerank("where?", DOCUMENTS) == right
        assert later.asked == []


def test_a_cache_that_forgets_at_once_loses_no_score() -> None:
    forgetful: Any = LRUCache(1)
    right = Reranker(scorer=Counting()).rerank("where?", DOCUMENTS)
    reranker = Reranker(scorer=Counting(), cache=forgetful)
    assert [reranker.rerank("where?", DOCUMENTS) for _ in range(2)] == [right] * 2


class Journal(dict[str, Any]):
    """A store on a full disk, which writes each entry to a file first."""

    def __init__(self, device: str = "/dev/full") -> None:
        super().__init__()
        self.device = device

    def __setitem__(self, key: str, value: Any) -> None:
        with Path(self.device).open("w", encoding="utf-8") as file:
            file.write(f"{key} {value}\n")
        super().__setitem__(key, value)


class Unreadable(dict[str, Any]):
    """A store whose file is damaged."""

    def get(self, key: str, default: Any = None) -> Any:
        raise OSError(5, "Input/output error")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_a_full_disk_costs_no_answer(call: Any) -> None:
    right = await call(Reranker(scorer=Counting()), "where?", DOCUMENTS)
    cache = Journal()
    reranker = Reranker(scorer=Counting(), cache=cache)
    with pytest.warns(RerankerWarning, match=r"cannot be written \(OSError: .*No space left"):
        assert await call(reranker, "where?", DOCUMENTS) == right
    assert cache == {}
    with warnings.catch_warnings():  # it is reported once
        warnings.simplefilter("error")
        assert await call(reranker, "where?", DOCUMENTS) == right
    cache.device = "/dev/null"  # there is room again
    assert await call(reranker, "where?", DOCUMENTS) == right
    assert len(cache) == 3


def test_a_cache_that_cannot_be_read_costs_no_answer() -> None:
    right = Reranker(scorer=Counting()).rerank("where?", DOCUMENTS)
    reranker = Reranker(scorer=Counting(), cache=Unreadable())
    with pytest.warns(RerankerWarning, match="Unreadable cannot be read .*scores are computed"):
        assert reranker.rerank("where?", DOCUMENTS) == right


@pytest.mark.parametrize(
    "damaged",
    [0.5, "0.5", (0.5,), (1.5, False, 0.0), (float("nan"), False, 0.0), (0.5, 0, 0.0), b"\0" * 9]
    + [(0.5, False, float("nan")), (0.5, False, 0.0, 1)],
)
def test_what_is_not_a_score_is_computed_again(damaged: Any) -> None:
    cache: dict[str, Any] = {}
    right = Reranker(scorer=Counting(), cache=cache).rerank("where?", DOCUMENTS)
    cache.update(dict.fromkeys(cache, damaged))
    assert Reranker(scorer=Counting(), cache=cache).rerank("where?", DOCUMENTS) == right
    assert damaged not in cache.values()


@pytest.mark.parametrize("flag", [np.bool_, int, bool])
def test_flags_of_other_types_are_stored_as_bools(flag: Callable[[bool], Any]) -> None:
    class Flagging(Counting):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            scores = await super().score(query, texts, instruction)
            return replace(scores, truncated=[flag(cut) for cut in scores.truncated])

    scorer = Flagging()
    reranker = Reranker(scorer=scorer, cache={})
    right = Reranker(scorer=Counting()).rerank("where?", DOCUMENTS)
    for _ in range(2):
        hits = reranker.rerank("where?", DOCUMENTS)
        assert hits == right and {type(hit.truncated) for hit in hits} == {bool}
    assert len(scorer.asked) == 3


def test_failures_are_not_remembered() -> None:
    cache: dict[str, Any] = {}
    reranker = Reranker(scorer=AnsweringScorer(float("nan"), 0.5), cache=cache)
    for _ in range(2):
        with pytest.raises(ScoreError):
            reranker.score("q", ["a", "b"])
    assert cache == {}


def test_what_is_no_cache_is_refused() -> None:
    with pytest.raises(InputError, match="cache= is a int: give a dict"):
        Reranker(scorer=Counting(), cache=3)  # type: ignore[arg-type]


def test_adapters_share_a_cache_with_their_copies_and_leave_it_out_of_pickles() -> None:
    with ScriptedServer() as server:
        for adapter in (LangChainRerank, LlamaIndexRerank):
            cache: dict[str, Any] = {}
            first: Any = adapter(base_url=server.url, cache=cache)
            ranked = rerank_texts(first, "where?", DOCUMENTS)
            assert len(cache) == 3
            copied = first.model_copy()
            server.requests.clear()  # the copy finds out anew what the server is
            assert rerank_texts(copied, "where?", DOCUMENTS) == ranked
            assert not [request for request in server.asked() if "where?" in str(request.body)]
            assert "cache" not in repr(first) and "cache" not in first.model_dump()
            assert pickle.loads(pickle.dumps(first)).cache is None


def test_a_scorer_without_a_fingerprint_of_its_own_is_not_cacheable() -> None:
    with pytest.raises(InputError, match=r"FaultyScorer cannot be used with cache=.*fingerprint"):
        Reranker(scorer=FaultyScorer(), cache={})


async def test_scores_of_servers_that_differ_are_not_stored() -> None:
    """As where the server with the higher limit fails, and the other one cuts the document."""
    query, document = "Where does the river begin?", f"{'The sea. ' * 300} The river begins."
    right = [relevance(query, document)]
    cache: dict[str, Any] = {}
    with ScriptedServer() as larger, ScriptedServer() as smaller:
        models = larger.script["GET", "/v1/models"](Request("GET", "/v1/models", {}, None)).body
        (model,) = models["data"]
        limited = Reply({**models, "data": [{**model, "max_model_len": 512}]})
        smaller.script["GET", "/v1/models"] = lambda _: limited
        urls = [larger.url, smaller.url]
        async with Reranker(base_url=urls, cache=cache, tokenizer="demo") as reranker:
            await reranker.awarm_up()
            larger.first(Reply({"message": "out of memory"}, 500))
            with pytest.warns(RerankerWarning, match="the servers differ"):
                assert await reranker.ascore(query, [document]) != right
            assert cache == {}
            await reranker.ascore(query, [document])
            assert cache == {}
        async with Reranker(base_url=urls, cache=cache, tokenizer="demo") as reranker:
            assert await reranker.ascore(query, [document]) == right


async def test_servers_that_agree_share_their_entries() -> None:
    cache: dict[str, Any] = {}
    with ScriptedServer() as one, ScriptedServer() as other:
        urls = [one.url, other.url]
        async with Reranker(base_url=urls, cache=cache) as reranker:
            await reranker.awarm_up()
            one.first(Reply({"message": "out of memory"}, 500))
            first = await reranker.ascore("where?", DOCUMENTS)
        assert other.asked()
        one.requests.clear()
        async with Reranker(base_url=urls, cache=cache) as reranker:
            await reranker.awarm_up()
            asked = len(one.asked())
            assert await reranker.ascore("where?", DOCUMENTS) == first
        assert len(one.asked()) == asked


async def test_what_changes_during_a_call_is_not_remembered() -> None:
    """As where a server is detected again: the scores may be those of either."""

    class Changing(Counting):
        async def fingerprint(self) -> str:
            return str(len(self.asked))

    cache: dict[str, Any] = {}
    assert await Reranker(scorer=Changing(), cache=cache).ascore("where?", ["a river"])
    assert cache == {}


class Replaced(Counting):
    """Another model after the first text that is new to the cache, as after an engine's restart."""

    version = 1

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if "new" in texts:
            self.version = 2
        self.asked += texts
        usage = Usage(tokens=len(texts), scored=len(texts))
        return Scores([0.1 * self.version] * len(texts), [False] * len(texts), usage=usage)

    async def fingerprint(self) -> str:
        return f"version {self.version}"


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_a_ranking_never_mixes_the_scores_of_two_models(call: Any) -> None:
    cache: dict[str, Any] = {}
    scorer = Replaced()
    reranker = Reranker(scorer=scorer, cache=cache)
    await call(reranker, "q", ["a", "b"])
    scorer.asked.clear()
    ranking = await call(reranker, "q", ["a", "new", "b"])
    assert [(hit.text, hit.score) for hit in ranking] == [("a", 0.2), ("new", 0.2), ("b", 0.2)]
    assert scorer.asked == ["new", "a", "new", "b"]
    assert (ranking.usage.cached, ranking.usage.scored, ranking.usage.tokens) == (0, 4, 4)
    assert len(cache) == 2  # only the scores of the first call
    # What follows is that of the new model.
    assert {hit.score for hit in await call(reranker, "q", ["a", "b"])} == {0.2}


@pytest.mark.engine
def test_on_the_real_engine(reranker: Reranker) -> None:
    cached = Reranker(**SETTINGS, cache={})  # shares the engine
    first = cached.rerank("Where does a river begin?", DOCUMENTS)
    assert cached.rerank("Where does a river begin?", DOCUMENTS) == first
    computed = {h.index: h.score for h in reranker.rerank("Where does a river begin?", DOCUMENTS)}
    assert {h.index: h.score for h in first} == pytest.approx(computed, abs=1e-5)
