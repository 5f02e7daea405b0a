"""Scores that are remembered: the same as computed ones, and asked for once."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import diskcache
import httpx
import pytest
from cachetools import LRUCache
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import (
    InputError,
    Prompt,
    Reranker,
    RerankerWarning,
    ScoreError,
    Scorer,
    Scores,
    event_loop,
)
from qwen3_reranker.dialects.vllm import VllmClassify
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.embedded.scorer import EmbeddedScorer
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_reranker.model.checkpoint import DEMO_MODEL, Checkpoint
from qwen3_reranker.remote.scorer import RemoteScorer

from support.adapters import rerank_texts
from support.helpers import SECRET, SETTINGS, AnsweringScorer, FaultyScorer, either
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


def telling(place: str) -> ScriptedServer:
    """Return a server whose scores depend on all that it can tell apart, and on itself."""

    def noisy(right: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        def answer(request: Request) -> Reply:
            headers = [
                request.headers.get(name) for name in ("authorization", "x-version", "x-tenant")
            ]
            seen = repr([place, request.path, headers, request.body])
            body = right(request).body
            for result in body.get("results") or body["data"]:
                noise = crc32(seen.encode()) / 2**32 / 100
                if "probs" in result:
                    result["probs"][0] += noise
                else:
                    result["relevance_score"] += noise
            return Reply(body)

        return answer

    server = ScriptedServer()
    for (method, path), right in server.script.items():
        if method == "POST":
            server.script[method, path] = noisy(right)
    return server


class Damped(VllmClassify):
    """A dialect of the user's with the name of another."""

    def parse(self, answer: Any, count: int) -> list[float]:
        return [0.99 * score for score in super().parse(answer, count)]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[ScriptedServer]]:
    with telling("here") as one, telling("there") as other:
        yield [one, other]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two that cut at different places."""
    tokenizer = json.loads((DEMO_MODEL / "tokenizer.json").read_text())
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = merges[: len(merges) // 2]
    other = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    other.write_text(json.dumps(tokenizer))
    return ["demo", str(other)]


SERVER_SETTINGS: dict[str, list[Any]] = {
    "server": [0, 1],
    "tokenizer": [0, 1],
    "max_length": [150, 160],
    "model": ["scripted-reranker", "another"],
    "headers": [{"X-Version": "1"}, {"x-version": "2"}],
    "api_key": ["one", "two"],
    "dialect": ["auto", "vllm-classify", "vllm-rerank", Damped()],
    "client": ["1", "2"],
}
LONG = "a river that begins in the hills and ends in the sea " * 9


async def score(
    servers: list[ScriptedServer],
    tokenizers: list[str],
    settings: dict[str, Any],
    cache: dict[str, Any] | None,
) -> list[float]:
    settings = {**settings}
    url = servers[settings.pop("server")].url
    tokenizer = tokenizers[settings.pop("tokenizer")]
    version = settings.pop("client")
    client = httpx.AsyncClient(headers={"x-tenant": version}) if version else None
    async with Reranker(
        base_url=url, cache=cache, tokenizer=tokenizer, http_client=client, **settings
    ) as reranker:
        scores = await reranker.ascore("Where does the river begin?", ["a river", LONG])
    if client is not None:
        await client.aclose()
    return scores


def neighbors(values: dict[str, list[Any]], name: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return a strategy for two settings that differ in one value."""
    settings = st.fixed_dictionaries({key: st.sampled_from(found) for key, found in values.items()})
    pair = st.permutations(values[name])
    return st.builds(lambda one, two: [{**one, name: value} for value in two[:2]], settings, pair)


@pytest.mark.parametrize("name", SERVER_SETTINGS)
@settings(max_examples=3)
@given(data=st.data())
def test_settings_of_a_server_that_give_other_scores_share_no_entry(
    servers: list[ScriptedServer], tokenizers: list[str], name: str, data: st.DataObject
) -> None:
    one, other = data.draw(neighbors(SERVER_SETTINGS, name))

    async def compared() -> None:  # on the package's loop, where a client of the user's has to live
        cache: dict[str, Any] = {}
        await score(servers, tokenizers, one, cache)
        cached = await score(servers, tokenizers, other, cache)
        assert cached == await score(servers, tokenizers, other, None)

    event_loop.run(compared())


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


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Models that differ in their files alone."""
    root = tmp_path_factory.mktemp("models")
    first, second = (shutil.copytree(DEMO_MODEL, root / name) for name in ("first", "second"))
    return ["demo", str(first), str(second)]


ENGINE_SETTINGS: dict[str, list[Any]] = {
    "model": [0, 1, 2],
    "max_length": [None, 100, 200],
    "dtype": ["auto", "float32", "bfloat16"],
    "hf_overrides": [{}, {"rope_theta": 2.0}],
    "hf_token": [None, "one", "two"],
}


@pytest.mark.parametrize("name", ENGINE_SETTINGS)
@settings(max_examples=3)
@given(data=st.data())
def test_settings_of_an_engine_that_give_other_scores_share_no_entry(
    folders: list[str], name: str, data: st.DataObject
) -> None:
    def fingerprint(model: int, max_length: int | None, **engine_args: Any) -> str | None:
        scorer = EmbeddedScorer(folders[model], max_length=max_length, engine_args=engine_args)
        return event_loop.run(scorer.fingerprint())

    one, other = data.draw(neighbors(ENGINE_SETTINGS, name))
    assert fingerprint(**one) == fingerprint(**one)
    assert (fingerprint(**one) == fingerprint(**other)) == (name == "hf_token")


RECIPE_SETTINGS: dict[str, list[Any]] = {
    "model": [0, 1, 2],
    "max_length": [None, 100, 200],
    "dtype": ["auto", "float32", "bfloat16"],
    "device": ["cpu", "cuda"],
    "batch_size": [1, 8],
}


@pytest.mark.parametrize("name", RECIPE_SETTINGS)
@settings(max_examples=3)
@given(data=st.data())
def test_settings_of_the_recipe_that_give_other_scores_share_no_entry(
    folders: list[str], name: str, data: st.DataObject
) -> None:
    def fingerprint(model: int, **settings: Any) -> str:
        return event_loop.run(TransformersScorer(folders[model], **settings).fingerprint())

    one, other = data.draw(neighbors(RECIPE_SETTINGS, name))
    assert fingerprint(**one) == fingerprint(**one)
    assert fingerprint(**one) != fingerprint(**other)


def test_no_key_material_is_in_a_fingerprint() -> None:
    with ScriptedServer() as server:
        for scorer in (
            EmbeddedScorer("demo", engine_args={"hf_token": SECRET}),
            RemoteScorer(server.url, api_key=SECRET, headers={"x-key": SECRET}),
        ):
            fingerprint = event_loop.run(scorer.fingerprint())
            assert fingerprint is not None
            assert SECRET not in fingerprint
            event_loop.run(scorer.aclose())


async def test_what_changes_during_a_call_is_not_remembered() -> None:
    """As where a server is detected again: the scores may be those of either."""

    class Changing(Counting):
        async def fingerprint(self) -> str:
            return str(len(self.asked))

    cache: dict[str, Any] = {}
    assert await Reranker(scorer=Changing(), cache=cache).ascore("where?", ["a river"])
    assert cache == {}


def test_other_weights_in_the_same_folder_are_another_model(tmp_path: Path) -> None:
    folder = shutil.copytree(DEMO_MODEL, tmp_path / "model")
    checkpoint = Checkpoint.load(str(folder))
    before = checkpoint.fingerprint()
    assert checkpoint.fingerprint() == before
    weights = folder / "model.safetensors"
    times = (weights.stat().st_atime_ns, weights.stat().st_mtime_ns)
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=times)  # as tools do that unpack archives
    replaced = checkpoint.fingerprint()
    assert replaced != before
    os.utime(weights, ns=(1, 1))
    assert checkpoint.fingerprint() not in (before, replaced)


@pytest.mark.engine
def test_on_the_real_engine(reranker: Reranker) -> None:
    cached = Reranker(**SETTINGS, cache={})  # shares the engine
    first = cached.rerank("Where does a river begin?", DOCUMENTS)
    assert cached.rerank("Where does a river begin?", DOCUMENTS) == first
    computed = {h.index: h.score for h in reranker.rerank("Where does a river begin?", DOCUMENTS)}
    assert {h.index: h.score for h in first} == pytest.approx(computed, abs=1e-5)
