"""Scores that are remembered: the same as computed ones, and asked for once."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diskcache
import pytest
from cachetools import LRUCache
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError, Prompt, Reranker, ScoreError, Scorer, Scores, background
from qwen3_reranker.checkpoint import DEMO_MODEL, Checkpoint
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from helpers import AnsweringScorer, either
from scripted_server import ScriptedServer, relevance

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


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_what_is_remembered_is_not_asked_again(call: Any) -> None:
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
def test_no_key_stands_for_two_things(calls: list[tuple[str, list[str], str | None]]) -> None:
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
            scores = first._reranker.score("where?", DOCUMENTS)
            assert len(cache) == 3
            copied = first.model_copy()
            server.requests.clear()  # the copy finds out anew what the server is
            assert copied._reranker.score("where?", DOCUMENTS) == scores
            assert not [request for request in server.asked() if "where?" in str(request.body)]
            assert "cache" not in repr(first) and "cache" not in first.model_dump()
            assert pickle.loads(pickle.dumps(first)).cache is None


async def test_settings_of_a_server_are_part_of_the_key() -> None:
    cache: dict[str, Any] = {}
    with ScriptedServer() as server:
        one = Reranker(base_url=server.url, cache=cache)
        await one.ascore("where?", ["a river"])
        for settings in ({"model": "another"}, {"max_length": 512, "tokenizer": "demo"}):
            other: Any = Reranker(base_url=server.url, cache=cache, **settings)
            size = len(cache)
            await other.ascore("where?", ["a river"])
            assert len(cache) == size + 1
        assert "scores remembered in a dict" in await one.adescribe()


def test_the_engines_settings_are_part_of_the_key() -> None:
    async def fingerprint(**settings: Any) -> str:
        return await Reranker("demo", **settings)._scorer.fingerprint()

    settings: list[dict[str, Any]] = [
        {},
        {"max_length": 100},
        {"engine_args": {"dtype": "float32"}},
    ]
    found = [background.run(fingerprint(**each)) for each in settings]
    assert len(set(found)) == 3
    assert background.run(fingerprint()) == found[0]


def test_other_weights_in_the_same_folder_are_another_model(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO_MODEL, tmp_path / "model")
    checkpoint = Checkpoint.load(str(folder))
    before = checkpoint.fingerprint()
    assert checkpoint.fingerprint() == before
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert checkpoint.fingerprint() != before


def test_an_engine_keeps_its_key_when_its_files_are_replaced(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO_MODEL, tmp_path / "model")
    reranker = Reranker(str(folder))
    before = background.run(reranker._scorer.fingerprint())
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert background.run(reranker._scorer.fingerprint()) == before


def test_on_the_real_engine(reranker: Reranker) -> None:
    cached = Reranker(scorer=reranker._scorer, cache={})
    first = cached.rerank("Where does a river begin?", DOCUMENTS)
    assert cached.rerank("Where does a river begin?", DOCUMENTS) == first
    computed = {h.index: h.score for h in reranker.rerank("Where does a river begin?", DOCUMENTS)}
    assert {h.index: h.score for h in first} == pytest.approx(computed, abs=1e-5)
