"""The LangChain compressor by itself: what it returns, what it leaves alone, what it shows."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import multiprocessing
import pickle
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import AsyncCallbackHandler, AsyncCallbackManager, CallbackManager
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.load import dumpd, dumps
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from qwen3_reranker import DEFAULT_MODEL, ClosedError, InputError, Reranker
from qwen3_reranker.langchain import Qwen3Rerank

from helpers import INSTRUCTION, SECRET, SETTINGS, FaultyScorer, either

QUERY = "How do I shuffle a list in place?"

Compress = Callable[..., Awaitable[list[Document]]]


@pytest.fixture(params=["compress_documents", "acompress_documents"])
def compress(request: pytest.FixtureRequest) -> Compress:
    """Call the sync or the async method; what holds for one holds for the other."""
    return either(request.param)


@pytest.fixture
def documents() -> list[Document]:
    found: list[Any] = [shutil.copytree, threading.Lock, random.shuffle, json.loads, sys.getsizeof]
    return [
        Document(
            f"{each.__name__}\n\n{inspect.getdoc(each)}",
            id=f"id-{place}",
            metadata={"title": each.__name__, "place": place, "nested": {"seen": [place]}},
        )
        for place, each in enumerate(found)
    ]


def scores_of(documents: Sequence[Document], key: str = "relevance_score") -> list[float]:
    return [document.metadata[key] for document in documents]


def close_to(scores: Sequence[float]) -> Any:
    return pytest.approx(list(scores), abs=1e-4)


def texts_of(documents: Sequence[Document]) -> list[str]:
    return [document.page_content for document in documents]


# What is returned


async def test_the_document_that_answers_comes_first(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    best, *_ = await compress(Qwen3Rerank(reranker=reranker), documents, QUERY)
    assert best.metadata["title"] == "shuffle"


@pytest.mark.parametrize("top_n", [1, 2, None, 100])
async def test_scores_are_the_rerankers_best_first(
    reranker: Reranker, documents: list[Document], compress: Compress, top_n: int | None
) -> None:
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=top_n), documents, QUERY)
    expected = dict(
        zip((d.id for d in documents), reranker.score(QUERY, texts_of(documents)), strict=True)
    )
    assert [expected[document.id] for document in kept] == close_to(scores_of(kept))
    assert scores_of(kept) == close_to(sorted(expected.values(), reverse=True)[:top_n])
    assert all(a >= b for a, b in pairwise(scores_of(kept)))


async def test_three_are_kept_by_default(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    assert len(await compress(Qwen3Rerank(reranker=reranker), documents, QUERY)) == 3


async def test_min_score_keeps_those_that_reach_it(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    everything = await compress(Qwen3Rerank(reranker=reranker, top_n=None), documents, QUERY)
    first, second, *_ = scores_of(everything)
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, min_score=(first + second) / 2)
    assert [d.id for d in await compress(adapter, documents, QUERY)] == [everything[0].id]
    assert await compress(adapter.model_copy(update={"min_score": 1}), documents, QUERY) == []


async def test_instruction_reaches_the_model(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, instruction=INSTRUCTION, top_n=None)
    instructed = reranker.score(QUERY, texts_of(documents), instruction=INSTRUCTION)
    plain = reranker.score(QUERY, texts_of(documents))
    scores = scores_of(await compress(adapter, documents, QUERY))
    assert scores == close_to(sorted(instructed, reverse=True))
    assert scores != close_to(sorted(plain, reverse=True))


def test_max_length_reaches_the_prompt() -> None:
    with Qwen3Rerank(model="demo", max_length=150) as adapter:
        prompt = adapter._reranker.prompt(QUERY, "shuffle " * 1000)
    assert prompt.truncated
    assert len(prompt.ids) == 150


async def test_id_metadata_and_class_are_kept(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    class Passage(Document):
        page: int = 7

    documents[0] = Passage.model_validate({"page_content": "text", "id": "passage", "page": 8})
    by_id = {document.id: document for document in documents}
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=None), documents, QUERY)
    assert {document.id for document in kept} == set(by_id)
    for document in kept:
        metadata = {k: v for k, v in document.metadata.items() if k != "relevance_score"}
        assert document.model_copy(update={"metadata": metadata}) == by_id[document.id]


async def test_nothing_that_was_given_is_changed(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    documents[1].metadata["relevance_score"] = "the retriever's"
    before = copy.deepcopy(documents)
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=None), documents, QUERY)
    for document in kept:
        assert isinstance(document.metadata["relevance_score"], float)
        document.metadata["new"] = 1
        document.page_content = ""
    assert documents == before


async def test_the_list_may_change_while_scores_are_awaited(
    reranker: Reranker, documents: list[Document]
) -> None:
    task = asyncio.create_task(Qwen3Rerank(reranker=reranker).acompress_documents(documents, QUERY))
    await asyncio.sleep(0)
    documents.clear()
    assert len(await task) == 3


async def test_metadata_key_names_the_score(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, metadata_key="qwen3")
    kept = await compress(adapter, documents, QUERY)
    assert len(scores_of(kept, "qwen3")) == 3
    assert all("relevance_score" not in document.metadata for document in kept)


async def test_nothing_retrieved_needs_no_engine(compress: Compress) -> None:
    with Qwen3Rerank(model="/no/such/model") as adapter:
        assert await compress(adapter, [], QUERY) == []


async def test_blank_documents_come_last_with_zero(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    found = [Document("  \n", id="blank"), *documents]
    kept = await compress(Qwen3Rerank(reranker=reranker, top_n=None), found, QUERY)
    assert (kept[-1].id, kept[-1].metadata) == ("blank", {"relevance_score": 0.0})


# The template

VALUES = st.text(st.sampled_from("ab {}%$.:!\n"), max_size=8)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(title=VALUES, section=st.none() | st.integers() | VALUES, content=VALUES)
def test_template_puts_metadata_into_the_text_literally(
    reranker: Reranker, title: str, section: object, content: str
) -> None:
    template = "{title} 100 % {{x}} {Header 1}{absent}\n{page_content}"
    document = Document(
        content, metadata={"title": title, "Header 1": section, "page_content": "not this"}
    )
    adapter = Qwen3Rerank(reranker=reranker, document_template=template)
    (kept,) = adapter.compress_documents([document], QUERY)
    written = f"{title} 100 % {{x}} {'' if section is None else section}\n{content}"
    assert scores_of([kept]) == close_to(reranker.score(QUERY, [written]))
    assert kept.page_content == content


async def test_template_decides_the_order(
    reranker: Reranker, documents: list[Document], compress: Compress
) -> None:
    found = [
        Document("See above.", id=document.id, metadata={"about": document.page_content})
        for document in documents
    ]
    plain = await compress(Qwen3Rerank(reranker=reranker, top_n=None), found, QUERY)
    assert [document.id for document in plain] == [document.id for document in documents]
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, document_template="{about}")
    templated = await compress(adapter, found, QUERY)
    hits = reranker.rerank(QUERY, texts_of(documents))
    assert [document.id for document in templated] == [documents[hit.index].id for hit in hits]


@pytest.mark.parametrize(
    "template",
    [
        "",
        "no field",
        "{{page_content}}",
        "{page_content",
        "page_content}",
        "{}",
        "{0}",
        "{ title }",
        "{page_content.__class__}",
        "{title[0]}",
        "{title!r}",
        "{title:>10}",
        "{title:{width}}",
        "{ti{tle}}",
    ],
)
def test_template_that_cannot_be_used_is_refused_at_construction(template: str) -> None:
    with pytest.raises(ValidationError, match="document_template=") as caught:
        Qwen3Rerank(document_template=template)
    assert repr(template) in str(caught.value)


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
    "pickle": lambda adapter: pickle.loads(pickle.dumps(adapter)),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_shares_the_engine_and_is_closed_for_itself(
    reranker: Reranker, documents: list[Document], name: str
) -> None:
    reranker.warm_up()
    processes = set(multiprocessing.active_children())
    assert processes
    original = Qwen3Rerank(**SETTINGS, top_n=2, min_score=0.0)
    original.metadata_key = "p_yes"
    with COPIES[name](original) as twin:
        assert twin.model_dump() == original.model_dump()
        original.close()
        assert len(scores_of(twin.compress_documents(documents, QUERY), "p_yes")) == 2
        assert set(multiprocessing.active_children()) == processes
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


def test_model_copy_updates_and_checks() -> None:
    adapter = Qwen3Rerank(top_n=2, instruction=INSTRUCTION)
    other = adapter.model_copy(update={"model": "demo", "top_n": None})
    assert (other.top_n, other.instruction) == (None, INSTRUCTION)
    assert other._reranker.model == "demo"
    with pytest.raises(ValidationError, match="top_n=0"):
        adapter.model_copy(update={"top_n": 0})
    with pytest.raises(ValidationError, match="topn"):
        adapter.model_copy(update={"topn": 1})


# The traced run


def check_run(run: Run, kept: Sequence[Document], documents: Sequence[Document]) -> None:
    assert run.name == "Qwen3Rerank"
    assert run.error is None
    assert run.inputs == {
        "query": QUERY,
        "model": "demo",
        "documents": len(documents),
        "top_n": 2,
        "min_score": 0.001,
        "instruction": INSTRUCTION,
    }
    assert run.outputs is not None
    assert run.outputs["documents"] == len(kept) > 0
    assert run.outputs["scores"] == scores_of(kept)
    assert [documents[i].id for i in run.outputs["indexes"]] == [d.id for d in kept]
    shown = json.dumps([run.inputs, run.outputs, run.extra, run.serialized], default=repr)
    assert not [text for text in texts_of(documents) if text[:40] in shown]


@pytest.fixture
def traced(reranker: Reranker) -> Qwen3Rerank:
    return Qwen3Rerank(reranker=reranker, top_n=2, min_score=0.001, instruction=INSTRUCTION)


@pytest.mark.parametrize(
    "callbacks",
    [
        lambda handler: [handler],
        lambda handler: CallbackManager([handler]),
        lambda handler: AsyncCallbackManager([handler]),
    ],
    ids=["list", "sync manager", "async manager"],
)
async def test_a_run_shows_the_call(
    traced: Qwen3Rerank,
    documents: list[Document],
    compress: Compress,
    callbacks: Callable[[Any], Any],
) -> None:
    collector = RunCollectorCallbackHandler()
    kept = await compress(traced, documents, QUERY, callbacks=callbacks(collector))
    (run,) = collector.traced_runs
    check_run(run, kept, documents)


async def test_the_run_is_a_child_of_the_retrievers(
    traced: Qwen3Rerank, documents: list[Document], compress: Compress
) -> None:
    store = InMemoryVectorStore.from_documents(documents, DeterministicFakeEmbedding(size=4))
    base_retriever = store.as_retriever(search_kwargs={"k": len(documents)})
    found = base_retriever.invoke(QUERY)
    retriever = ContextualCompressionRetriever(
        base_compressor=traced, base_retriever=base_retriever
    )
    for asynchronous in (False, True):
        collector = RunCollectorCallbackHandler()
        config: RunnableConfig = {"callbacks": [collector]}
        kept = (
            await retriever.ainvoke(QUERY, config)
            if asynchronous
            else retriever.invoke(QUERY, config)
        )
        (root,) = collector.traced_runs
        base, rerank = root.child_runs
        assert (base.run_type, rerank.parent_run_id) == ("retriever", root.id)
        check_run(rerank, kept, found)


async def test_without_callbacks_it_joins_the_run_that_is_going_on(
    traced: Qwen3Rerank, documents: list[Document]
) -> None:
    collector = RunCollectorCallbackHandler()
    config: RunnableConfig = {"callbacks": [collector]}

    def rerank(query: str) -> list[Document]:
        return traced.compress_documents(documents, query)

    async def arerank(query: str) -> list[Document]:
        return await traced.acompress_documents(documents, query)

    chain = RunnableLambda(rerank, afunc=arerank)
    answers = [chain.invoke(QUERY, config), await chain.ainvoke(QUERY, config)]
    for parent, kept in zip(collector.traced_runs, answers, strict=True):
        (child,) = parent.child_runs
        check_run(child, kept, documents)


async def test_the_async_run_awaits_its_handlers_on_the_callers_loop(
    traced: Qwen3Rerank, documents: list[Document]
) -> None:
    seen: list[tuple[str, asyncio.AbstractEventLoop]] = []

    class Handler(AsyncCallbackHandler):
        async def on_chain_start(self, *_: Any, **__: Any) -> None:
            seen.append(("start", asyncio.get_running_loop()))

        async def on_chain_end(self, *_: Any, **__: Any) -> None:
            seen.append(("end", asyncio.get_running_loop()))

    await traced.acompress_documents(documents, QUERY, [Handler()])
    loop = asyncio.get_running_loop()
    assert seen == [("start", loop), ("end", loop)]


async def test_an_empty_call_is_traced_too(traced: Qwen3Rerank, compress: Compress) -> None:
    collector = RunCollectorCallbackHandler()
    assert await compress(traced, [], QUERY, callbacks=[collector]) == []
    (run,) = collector.traced_runs
    assert run.outputs == {"documents": 0, "indexes": [], "scores": []}


@pytest.mark.parametrize(
    ("query", "fault", "expected"),
    [(" ", None, InputError), (QUERY, RuntimeError("out of memory"), RuntimeError)],
)
async def test_an_error_is_raised_and_traced(
    documents: list[Document],
    compress: Compress,
    query: str,
    fault: Exception | None,
    expected: type[Exception],
) -> None:
    adapter = Qwen3Rerank(reranker=Reranker(scorer=FaultyScorer(fault)))
    collector = RunCollectorCallbackHandler()
    with pytest.raises(expected):
        await compress(adapter, documents, query, callbacks=[collector])
    (run,) = collector.traced_runs
    assert run.error is not None
    assert expected.__name__ in run.error


async def test_cancelling_the_caller_cancels_the_work(documents: list[Document]) -> None:
    scorer = FaultyScorer()
    adapter = Qwen3Rerank(reranker=Reranker(scorer=scorer))
    task = asyncio.create_task(adapter.acompress_documents(documents, QUERY))
    assert await asyncio.to_thread(scorer.waiting.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(scorer.cancelled.wait, 10)


# The import


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_langchain_the_extra_is_named() -> None:
    done = run_python(
        "import sys; sys.modules['langchain_core'] = None\n"
        "from qwen3_reranker import MissingDependencyError\n"
        "try: import qwen3_reranker.langchain\n"
        "except MissingDependencyError as error: print(error)"
    )
    assert "pip install 'qwen3-reranker[langchain]'" in done.stdout, done.stderr


def test_the_import_stays_light() -> None:
    done = run_python(
        "import sys, qwen3_reranker.langchain\n"
        "heavy = {'langchain_classic', 'llama_index', 'torch', 'transformers', 'vllm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert done.stdout == "[]\n", done.stderr
