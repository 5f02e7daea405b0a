"""The LangChain compressor by itself: its settings, its copies, its closing, what it shows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.load import dumpd, dumps
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from qwen3_reranker import DEFAULT_MODEL, ClosedError, Reranker
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import INSTRUCTION, SECRET, SETTINGS, either
from support.langchain_helpers import QUERY, Compress, make_documents, scores_of


@pytest.fixture(params=["compress_documents", "acompress_documents"])
def compress(request: pytest.FixtureRequest) -> Compress:
    """Call the sync or the async method; what holds for one holds for the other."""
    return either(request.param)


@pytest.fixture
def documents() -> list[Document]:
    return make_documents()


# Settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_n": 0}, "top_n=0: give"),
        ({"top_n": True}, "top_n=True: give"),
        ({"top_n": "3"}, "top_n='3': give"),
        ({"min_score": 2}, "min_score=2: scores are probabilities"),
        ({"min_score": float("nan")}, "min_score=nan"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": "512"}, "max_length"),
        ({"metadata_key": ""}, "metadata_key"),
        ({"topn": 3}, "topn\n  Extra inputs are not permitted"),
        ({"reranker": "demo"}, "instance of Reranker"),
    ],
)
def test_arguments_are_checked_at_construction(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Qwen3Rerank(**arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["model", "max_length", "engine_args"])
def test_a_ready_reranker_has_its_own_engine_settings(reranker: Reranker, name: str) -> None:
    arguments: dict[str, Any] = {"model": "demo", "max_length": 100, "engine_args": {}}
    with pytest.raises(ValidationError, match=rf"reranker= is given, and {name} too"):
        Qwen3Rerank(reranker=reranker, **{name: arguments[name]})


def test_settings_that_are_none_may_stand_beside_a_ready_reranker(reranker: Reranker) -> None:
    adapter = Qwen3Rerank(reranker=reranker, max_length=None, engine_args=None)
    assert adapter.model_copy().reranker is reranker


def test_settings_have_a_json_schema() -> None:
    assert "reranker" not in Qwen3Rerank.model_json_schema()["properties"]


def test_model_is_the_one_that_scores(reranker: Reranker) -> None:
    assert Qwen3Rerank(reranker=reranker).model == "demo"
    assert Qwen3Rerank().model == DEFAULT_MODEL


def test_settings_of_a_query_can_be_reassigned_and_stay_checked(
    reranker: Reranker, documents: list[Document]
) -> None:
    adapter = Qwen3Rerank(reranker=reranker)
    adapter.top_n = 1
    assert len(adapter.compress_documents(documents, QUERY)) == 1
    with pytest.raises(ValidationError, match="top_n=0"):
        adapter.top_n = 0
    with pytest.raises(ValidationError, match="frozen"):
        adapter.model = "another"


def test_secrets_are_not_shown() -> None:
    adapter = Qwen3Rerank(engine_args={"hf_token": SECRET})
    base = InMemoryVectorStore(DeterministicFakeEmbedding(size=4)).as_retriever()
    retriever = ContextualCompressionRetriever(base_compressor=adapter, base_retriever=base)
    shown = [repr(adapter), str(adapter), adapter.model_dump_json(), repr(adapter.model_dump())]
    shown += [repr(retriever), str(retriever), repr(dumpd(retriever)), dumps(retriever)]
    shown += [repr(dumpd(adapter)), repr(adapter._reranker)]
    assert DEFAULT_MODEL in shown[0]
    assert DEFAULT_MODEL in shown[6]
    assert not [text for text in shown if SECRET in text]
    for wrong in ({"top_n": 0}, {"api_key": SECRET}, {"max_length": 0}):
        with pytest.raises(ValidationError) as caught:
            Qwen3Rerank(engine_args={"hf_token": SECRET}, **wrong)
        assert SECRET not in str(caught.value)


# Life and copies


async def test_a_reranker_that_was_handed_in_stays_open(
    reranker: Reranker, documents: list[Document]
) -> None:
    with Qwen3Rerank(reranker=reranker) as adapter:
        pass
    async with adapter:
        pass
    assert len(await adapter.acompress_documents(documents, QUERY)) == 3


async def test_a_reranker_of_its_own_is_closed(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    with Qwen3Rerank(**SETTINGS) as first:
        assert len(await compress(first, documents, QUERY)) == 3
    async with Qwen3Rerank(**SETTINGS) as second:
        assert len(await compress(second, documents, QUERY)) == 3
    for adapter in (first, second):
        with pytest.raises(ClosedError):
            await compress(adapter, documents, QUERY)


COPIES: dict[str, Callable[[Qwen3Rerank], Qwen3Rerank]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda adapter: adapter.model_copy(),
    "model_copy deep": lambda adapter: adapter.model_copy(deep=True),
    "deprecated copy": lambda adapter: adapter.copy(),  # pydantic's deprecated one
    "deprecated copy deep": lambda adapter: adapter.copy(deep=True),
    "pickle": lambda adapter: pickle.loads(pickle.dumps(adapter)),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_shares_the_engine_and_is_closed_for_itself(
    reranker: Reranker, documents: list[Document], name: str
) -> None:
    reranker.warm_up()
    processes = set(psutil.Process().children())
    assert processes
    original = Qwen3Rerank(**SETTINGS, top_n=2, min_score=0.0)
    original.metadata_key = "p_yes"
    with COPIES[name](original) as twin:
        assert twin.model_dump() == original.model_dump()
        original.close()
        assert len(scores_of(twin.compress_documents(documents, QUERY), "p_yes")) == 2
        assert set(psutil.Process().children()) == processes
    with pytest.raises(ClosedError):
        twin.compress_documents(documents, QUERY)


@pytest.mark.parametrize("name", [name for name in COPIES if name != "pickle"])
def test_a_copy_shares_a_ready_reranker(
    reranker: Reranker, documents: list[Document], name: str
) -> None:
    original = Qwen3Rerank(reranker=reranker, top_n=2)
    twin = COPIES[name](original)
    assert twin is not original
    assert twin.reranker is reranker
    assert len(twin.compress_documents(documents, QUERY)) == 2


def test_a_ready_reranker_is_not_pickled(reranker: Reranker) -> None:
    with pytest.raises(TypeError, match="cannot be pickled: give it model="):
        pickle.dumps(Qwen3Rerank(reranker=reranker))


def test_the_deprecated_copy_selects_settings() -> None:
    adapter = Qwen3Rerank(top_n=2, instruction=INSTRUCTION)
    assert adapter.copy(update={"top_n": 5}).top_n == 5
    only = adapter.copy(include={"top_n"})
    assert (only.top_n, only.instruction) == (2, None)
    without = adapter.copy(exclude={"top_n"})
    assert (without.top_n, without.instruction) == (3, INSTRUCTION)
    with pytest.raises(ValidationError, match="top_n=0"):
        adapter.copy(update={"top_n": 0})


def test_model_copy_updates_and_checks() -> None:
    adapter = Qwen3Rerank(top_n=2, instruction=INSTRUCTION)
    other = adapter.model_copy(update={"model": "demo", "top_n": None})
    assert (other.top_n, other.instruction) == (None, INSTRUCTION)
    assert other._reranker.model == "demo"
    with pytest.raises(ValidationError, match="top_n=0"):
        adapter.model_copy(update={"top_n": 0})
    with pytest.raises(ValidationError, match="topn"):
        adapter.model_copy(update={"topn": 1})
