"""The spans of the adapters, alone and beside OpenInference's instrumentors of the frameworks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from openinference.instrumentation import suppress_tracing
from openinference.instrumentation.langchain import LangChainInstrumentor
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from qwen3_reranker import EngineError, Reranker, RerankerWarning
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import AnsweringScorer, FaultyScorer, either
from support.scripted_server import ScriptedServer
from support.spans import Spans, attributes, documents, id_of, kind, parent_of, traceparent

QUERY = "a secret question"
TEXTS = ["first secret", "second secret", "third secret"]
DOCUMENTS = [Document(TEXTS[0], id="a"), Document(TEXTS[1]), Document(TEXTS[2], id="c")]

COMPRESS = ["compress_documents", "acompress_documents"]
POSTPROCESS = ["postprocess_nodes", "apostprocess_nodes"]
STEP = ["invoke", "ainvoke"]


def nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, id_=id_), score=0.1)
        for text, id_ in zip(TEXTS, "abc", strict=True)
    ]


@pytest.fixture
def reranker() -> Reranker:
    return Reranker(scorer=AnsweringScorer(0.2, 0.8, 0.5))


@pytest.fixture
def langchain(spans: Spans) -> Iterator[None]:
    """LangChain, traced by OpenInference."""
    LangChainInstrumentor().instrument(tracer_provider=spans.provider)
    yield
    LangChainInstrumentor().uninstrument()


@pytest.fixture
def llama_index(spans: Spans) -> Iterator[None]:
    """LlamaIndex, traced by OpenInference."""
    # It works with 0.14.0, but refuses LlamaIndex before 0.14.19.
    LlamaIndexInstrumentor().instrument(tracer_provider=spans.provider, skip_dep_check=True)
    yield
    LlamaIndexInstrumentor().uninstrument()


async def rerank_with(method: str, reranker: Reranker, **settings: Any) -> Any:
    """Rerank the documents by one of the adapters' methods."""
    if method in POSTPROCESS:
        adapter = LlamaIndexRerank(reranker=reranker, **settings)
        return await either(method)(adapter, nodes(), query_str=QUERY)
    compressor = LangChainRerank(reranker=reranker, **settings)
    if method in COMPRESS:
        return await either(method)(compressor, DOCUMENTS, QUERY)
    return await either(method)(compressor.as_runnable(), {"query": QUERY, "documents": DOCUMENTS})


def named(spans: Spans, name: str) -> list[ReadableSpan]:
    return [span for span in spans.all if span.name == name]


# Without instrumentors.


@pytest.mark.parametrize("method", [*COMPRESS, *STEP, *POSTPROCESS])
async def test_an_adapters_span_identifies_the_documents(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    with spans.tracer.start_as_current_span("request"):
        await rerank_with(method, reranker, top_n=2)
    span, request = spans.all
    assert parent_of(span) == id_of(request)
    ids = "abc" if method in POSTPROCESS else "a1c"  # the second document has no id
    assert documents(span, "input") == [{"id": id_} for id_ in ids]
    assert documents(span) == [{"id": ids[1], "score": 0.8}, {"id": "c", "score": 0.5}]
    assert attributes(span)["reranker.top_k"] == 2
    assert attributes(span)["reranker.model_name"] == "answering"
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("method", [*COMPRESS, *STEP, *POSTPROCESS])
async def test_two_calls_in_one_context_have_a_span_each(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    await rerank_with(method, reranker)
    await reranker.arerank(QUERY, TEXTS)
    assert [documents(span)[0]["id"] for span in spans.all] == [
        "b" if method in POSTPROCESS else "1",
        "1",
    ]
    assert {parent_of(span) for span in spans.all} == {None}


@pytest.mark.parametrize("method", [*COMPRESS, *STEP, *POSTPROCESS])
async def test_a_failure_is_recorded_once(spans: Spans, method: str) -> None:
    with pytest.raises(EngineError):
        await rerank_with(method, Reranker(scorer=FaultyScorer(EngineError("it broke"))))
    [span] = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("method", [*COMPRESS, *STEP, *POSTPROCESS])
async def test_the_server_continues_an_adapters_span(spans: Spans, method: str) -> None:
    with ScriptedServer() as server, Reranker(base_url=server.url) as reranker:
        await rerank_with(method, reranker)
    [span] = spans.all
    for request in server.requests:
        assert request.headers["traceparent"].startswith(traceparent(span))


# Beside LangChain's instrumentor.


@pytest.mark.usefixtures("langchain")
@pytest.mark.parametrize("method", [*COMPRESS, *STEP])
async def test_a_run_has_one_rerankers_span_in_it(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    with spans.tracer.start_as_current_span("request"):
        await rerank_with(method, reranker, top_n=1)
    span, run, request = spans.all
    assert (run.name, kind(run)) == ("Qwen3Rerank", "CHAIN")
    assert (span.name, kind(span)) == ("qwen3_reranker.rerank", "RERANKER")
    assert parent_of(span) == id_of(run)
    assert parent_of(run) == id_of(request)
    assert documents(span) == [{"id": "1", "score": 0.8}]


@pytest.mark.usefixtures("langchain")
@pytest.mark.parametrize("method", COMPRESS)
async def test_a_run_that_shows_documents_is_a_retrievers(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    await rerank_with(method, reranker, top_n=1, trace_documents=True)
    span, run = spans.all
    assert (kind(run), kind(span)) == ("RETRIEVER", "RERANKER")
    assert parent_of(span) == id_of(run)
    shown = attributes(run)
    assert shown["retrieval.documents.0.document.content"] == TEXTS[1]
    assert "retrieval.documents.1.document.content" not in shown
    assert all(text in shown["input.value"] for text in TEXTS)


class Everything(BaseRetriever):
    """Finds all documents."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return DOCUMENTS


@pytest.mark.usefixtures("langchain")
def test_in_a_chain_each_rerankers_span_is_in_its_run(spans: Spans, reranker: Reranker) -> None:
    step = LangChainRerank(reranker=reranker).as_runnable()
    retrieve: dict[str, Any] = {"query": RunnablePassthrough(), "documents": Everything()}
    chain = RunnableParallel(retrieve) | step
    chain.batch(["first question", "second question", "third question"])
    runs = {id_of(span): span for span in named(spans, "Qwen3Rerank")}
    assert len(runs) == 3
    assert sorted(parent_of(span) or "" for span in spans.rerankers) == sorted(runs)
    for span in spans.rerankers:
        assert span.context.trace_id == runs[parent_of(span) or ""].context.trace_id


@pytest.mark.usefixtures("langchain")
def test_a_reranker_beside_the_adapter_has_its_own_span(spans: Spans, reranker: Reranker) -> None:
    """In a chain, as a function of the user's."""

    def rerank(query: str) -> int:
        return len(reranker.rerank(query, TEXTS))

    assert RunnableLambda(rerank).invoke(QUERY) == 3
    assert len(spans.rerankers) == 1


def test_an_instrumentor_that_is_not_used_changes_nothing(
    spans: Spans, reranker: Reranker, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has been imported, and would print that it is not in use."""
    LangChainRerank(reranker=reranker).compress_documents(DOCUMENTS, QUERY)
    LlamaIndexRerank(reranker=reranker).postprocess_nodes(nodes(), query_str=QUERY)
    assert len(spans.rerankers) == len(spans.all) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("method", [*COMPRESS, *POSTPROCESS])
async def test_an_instrumentor_that_has_other_functions_does_no_harm(
    spans: Spans, reranker: Reranker, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    for framework in ("langchain", "llama_index"):
        name = f"openinference.instrumentation.{framework}"
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    await rerank_with(method, reranker)
    assert len(spans.rerankers) == 1


# Beside LlamaIndex's instrumentor.


@pytest.mark.usefixtures("llama_index")
@pytest.mark.parametrize("method", POSTPROCESS)
async def test_the_instrumentors_span_is_the_only_one(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    with spans.tracer.start_as_current_span("request"):
        await rerank_with(method, reranker, top_n=2)
    span, request = spans.all
    assert span.name.startswith("Qwen3Rerank.")
    assert kind(span) == "RERANKER"
    assert parent_of(span) == id_of(request)
    assert [(document["id"], document["score"]) for document in documents(span)] == [
        ("b", 0.8),
        ("c", 0.5),
    ]
    assert [document["id"] for document in documents(span, "input")] == list("abc")
    assert attributes(span)["reranker.model_name"] == "answering"
    assert attributes(span)["reranker.top_k"] == 2


@pytest.mark.usefixtures("llama_index")
@pytest.mark.parametrize("method", POSTPROCESS)
async def test_the_instrumentors_span_is_continued_and_says_what_the_query_cost(
    spans: Spans, method: str
) -> None:
    with ScriptedServer() as server, Reranker(base_url=server.url) as reranker:
        await rerank_with(method, reranker)
    [span] = spans.all
    for request in server.requests:
        assert request.headers["traceparent"].startswith(traceparent(span))
    assert attributes(span)["qwen3_reranker.usage.scored"] == 3


@pytest.mark.usefixtures("llama_index")
@pytest.mark.parametrize("method", POSTPROCESS)
async def test_the_instrumentors_span_has_the_failure_once(spans: Spans, method: str) -> None:
    with pytest.raises(EngineError):
        await rerank_with(method, Reranker(scorer=FaultyScorer(EngineError("it broke"))))
    [span] = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.usefixtures("llama_index")
def test_the_instrumentors_span_says_that_the_order_was_kept(spans: Spans) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("it broke")), on_error="keep_order")
    with pytest.warns(RerankerWarning):
        LlamaIndexRerank(reranker=reranker).postprocess_nodes(nodes(), query_str=QUERY)
    [span] = spans.all
    assert [event.name for event in span.events] == ["qwen3_reranker.keep_order"]


@pytest.mark.usefixtures("llama_index")
async def test_calls_at_the_same_time_keep_their_spans_apart(
    spans: Spans, reranker: Reranker
) -> None:
    adapter = LlamaIndexRerank(reranker=reranker)
    queries = [f"question {number}" for number in range(10)]
    await asyncio.gather(
        *(adapter.apostprocess_nodes(nodes(), query_str=query) for query in queries)
    )
    assert len(spans.all) == len(spans.rerankers) == 10
    assert sorted(attributes(span)["reranker.query"] for span in spans.all) == queries


@pytest.mark.usefixtures("langchain", "llama_index")
@pytest.mark.parametrize("method", [*COMPRESS, *STEP, *POSTPROCESS])
async def test_tracing_can_be_suppressed(spans: Spans, reranker: Reranker, method: str) -> None:
    with suppress_tracing():
        await rerank_with(method, reranker)
    assert spans.all == []


class Twice(LlamaIndexRerank):
    """Reranks a second time, by the reranker itself."""

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        kept = super()._postprocess_nodes(nodes, query_bundle)
        self._reranker.rerank(QUERY, [node.text for node in kept])
        return kept


@pytest.mark.usefixtures("llama_index")
def test_another_call_within_the_instrumentors_span_has_its_own(
    spans: Spans, reranker: Reranker
) -> None:
    settings: dict[str, Any] = {"reranker": reranker}
    Twice(**settings).postprocess_nodes(nodes(), query_str=QUERY)
    first, second, both = spans.all  # LlamaIndex wraps the method of each class
    assert [kind(span) for span in (first, second, both)] == ["RERANKER", "RERANKER", "CHAIN"]
    assert second.name == "qwen3_reranker.rerank"
    assert parent_of(first) == parent_of(second) == id_of(both)
