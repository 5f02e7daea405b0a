"""The traced run of the LangChain compressor: with documents, where they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run

from qwen3_reranker import EngineError, Reranker, RerankerWarning
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import AnsweringScorer, FaultyScorer, either

QUERY = "a question"
DOCUMENTS = [Document(f"text {number}", id=str(number), metadata={"n": number}) for number in "abc"]
COMPRESS = ["compress_documents", "acompress_documents"]


@pytest.fixture
def reranker() -> Reranker:
    return Reranker(scorer=AnsweringScorer(0.2, 0.8, 0.5))


async def traced(adapter: Qwen3Rerank, method: str) -> tuple[Run, list[Document]]:
    """Return the run of a call, and what the call returned."""
    collector = RunCollectorCallbackHandler()
    kept = await either(method)(adapter, DOCUMENTS, QUERY, callbacks=[collector])
    (run,) = collector.traced_runs
    return run, kept


@pytest.mark.parametrize("method", COMPRESS)
async def test_a_run_shows_documents_as_a_retrievers_does(reranker: Reranker, method: str) -> None:
    run, kept = await traced(Qwen3Rerank(reranker=reranker, top_n=2, trace_documents=True), method)
    assert (run.name, run.run_type, run.child_runs) == ("Qwen3Rerank", "retriever", [])
    assert run.inputs["query"] == QUERY
    assert run.inputs["documents"] == DOCUMENTS
    assert run.inputs["top_n"] == 2
    assert run.outputs is not None
    assert run.outputs["documents"] == kept
    assert [document.id for document in kept] == ["b", "c"]
    assert run.outputs["scores"] == [0.8, 0.5]

    class Found(BaseRetriever):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
            return kept

    collector = RunCollectorCallbackHandler()
    Found().invoke(QUERY, {"callbacks": [collector]})
    (retrievers,) = collector.traced_runs
    assert retrievers.outputs is not None
    assert retrievers.run_type == run.run_type
    assert retrievers.outputs["documents"] == run.outputs["documents"]


@pytest.mark.parametrize("method", COMPRESS)
async def test_by_default_it_shows_none(reranker: Reranker, method: str) -> None:
    run, kept = await traced(Qwen3Rerank(reranker=reranker, top_n=2), method)
    assert run.run_type == "chain"
    assert run.inputs["documents"] == 3
    assert run.outputs is not None
    assert run.outputs["documents"] == len(kept) == 2


@pytest.mark.parametrize("method", COMPRESS)
async def test_the_traced_list_is_not_the_callers(reranker: Reranker, method: str) -> None:
    """A tracer that works in the background reads it after the call."""
    run, kept = await traced(Qwen3Rerank(reranker=reranker, trace_documents=True), method)
    kept.clear()
    assert run.outputs is not None
    assert len(run.outputs["documents"]) == 3


@pytest.mark.parametrize("method", COMPRESS)
async def test_a_run_that_fails_shows_what_it_was_given(method: str) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("it broke")))
    collector = RunCollectorCallbackHandler()
    adapter = Qwen3Rerank(reranker=reranker, trace_documents=True)
    with pytest.raises(EngineError):
        await either(method)(adapter, DOCUMENTS, QUERY, callbacks=[collector])
    (run,) = collector.traced_runs
    assert run.run_type == "retriever"
    assert run.inputs["documents"] == DOCUMENTS
    assert "it broke" in (run.error or "")


def test_a_run_that_kept_the_order_shows_why() -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("it broke")), on_error="keep_order")
    adapter = Qwen3Rerank(reranker=reranker, trace_documents=True)
    collector = RunCollectorCallbackHandler()
    with pytest.warns(RerankerWarning):
        kept = adapter.compress_documents(DOCUMENTS, QUERY, [collector])
    (run,) = collector.traced_runs
    assert run.outputs is not None
    assert run.outputs["documents"] == kept
    assert run.outputs["error"] == "it broke"


def test_the_setting_can_be_reassigned(reranker: Reranker) -> None:
    adapter = Qwen3Rerank(reranker=reranker)
    adapter.trace_documents = True
    collector = RunCollectorCallbackHandler()
    adapter.compress_documents(DOCUMENTS, QUERY, [collector])
    assert collector.traced_runs[0].run_type == "retriever"


async def test_events_are_those_of_a_retriever(reranker: Reranker) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=1, trace_documents=True)

    async def rerank(query: str) -> list[Document]:
        return await adapter.acompress_documents(DOCUMENTS, query)

    events = [event async for event in RunnableLambda(rerank).astream_events(QUERY, version="v2")]
    found = [event for event in events if event["name"] == "Qwen3Rerank"]
    assert [event["event"] for event in found] == ["on_retriever_start", "on_retriever_end"]
    assert [document.id for document in found[1]["data"]["output"]["documents"]] == ["b"]


def test_handlers_are_called_as_for_any_step(reranker: Reranker) -> None:
    seen: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_chain_start(self, *_: Any, **settings: Any) -> None:
            seen.append(f"start {settings['run_type']}")

        def on_chain_end(self, *_: Any, **__: Any) -> None:
            seen.append("end")

    adapter = Qwen3Rerank(reranker=reranker, trace_documents=True)
    adapter.compress_documents(DOCUMENTS, QUERY, [Handler()])
    assert seen == ["start retriever", "end"]
