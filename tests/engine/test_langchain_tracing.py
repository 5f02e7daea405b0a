"""The LangChain compressor's traced run: what it shows, whose child it is, how it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import AsyncCallbackHandler, AsyncCallbackManager, CallbackManager
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run
from langchain_core.vectorstores import InMemoryVectorStore

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import INSTRUCTION, FaultyScorer
from support.langchain_helpers import QUERY, Compress, scores_of, texts_of


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
    assert run.outputs["tokens"] > len(documents) > 0
    assert run.end_time is not None
    assert 0 < run.outputs["seconds"] < (run.end_time - run.start_time).total_seconds()
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
    started = time.perf_counter()
    assert await compress(traced, [], QUERY, callbacks=[collector]) == []
    seconds = time.perf_counter() - started
    (run,) = collector.traced_runs
    assert run.outputs is not None
    assert 0 < run.outputs.pop("seconds") <= seconds
    assert run.outputs == {"documents": 0, "indexes": [], "scores": [], "tokens": 0}


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


async def test_canceling_the_caller_cancels_the_work(documents: list[Document]) -> None:
    scorer = FaultyScorer()
    adapter = Qwen3Rerank(reranker=Reranker(scorer=scorer))
    task = asyncio.create_task(adapter.acompress_documents(documents, QUERY))
    assert await asyncio.to_thread(scorer.waiting.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(scorer.cancelled.wait, 10)
