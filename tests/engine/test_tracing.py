"""Traces of a real engine: the spans of rerankers and adapters, and those of vLLM itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from llama_index.core.schema import NodeWithScore
from openinference.instrumentation.langchain import LangChainInstrumentor
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import SETTINGS
from support.langchain_helpers import QUERY as LANGCHAIN_QUERY
from support.langchain_helpers import Compress
from support.llama_index_helpers import QUERY as LLAMA_INDEX_QUERY
from support.llama_index_helpers import Rerank
from support.spans import Spans, attributes, collected, id_of, kind, parent_of
from support.spans import documents as described

QUERY = "How do I copy a folder?"
TEXTS = ["shutil.copytree copies a directory tree.", "random.shuffle shuffles a list."]


@pytest.fixture
def spans() -> Iterator[Spans]:
    with collected() as spans:
        yield spans


class Collector:
    """An OpenTelemetry collector that keeps the bodies of what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.arrived = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with outer.arrived:
                    outer.received += body
                    outer.arrived.notify_all()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_vllms_spans_are_children_of_the_queries(
    spans: Spans, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One span per document, whose trace and parent are those of the query."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds
    args = SETTINGS["engine_args"] | {"otlp_traces_endpoint": collector.url}
    with Reranker("demo", engine_args=args, check=False) as reranker:
        hits = reranker.rerank(QUERY, TEXTS)
        assert hits[0].index == 0
        [span] = spans.all
        parent = span.context.span_id.to_bytes(8, "big")
        with collector.arrived:
            assert collector.arrived.wait_for(lambda: collector.received.count(parent) == 2, 60)
    assert collector.received.count(b"llm_request") == 2
    assert collector.received.count(span.context.trace_id.to_bytes(16, "big")) == 2


async def test_a_langchain_run_contains_the_span_of_the_engines_scores(
    spans: Spans, reranker: Reranker, compress: Compress, documents: list[Document]
) -> None:
    adapter = LangChainRerank(reranker=reranker, top_n=2)
    LangChainInstrumentor().instrument(tracer_provider=spans.provider)
    try:
        kept = await compress(adapter, documents, LANGCHAIN_QUERY)
    finally:
        LangChainInstrumentor().uninstrument()
    span, run = spans.all
    assert (kind(run), kind(span)) == ("CHAIN", "RERANKER")
    assert parent_of(span) == id_of(run)
    assert described(span) == [
        {"id": document.id, "score": document.metadata["relevance_score"]} for document in kept
    ]
    assert attributes(span)["qwen3_reranker.usage.tokens"] > 100
    assert attributes(span)["qwen3_reranker.usage.scoring_seconds"] > 0


async def test_llama_indexs_span_has_the_engines_scores(
    spans: Spans, reranker: Reranker, rerank: Rerank, nodes: list[NodeWithScore]
) -> None:
    adapter = LlamaIndexRerank(reranker=reranker, top_n=2)
    LlamaIndexInstrumentor().instrument(tracer_provider=spans.provider)
    try:
        kept = await rerank(adapter, nodes, query_str=LLAMA_INDEX_QUERY)
    finally:
        LlamaIndexInstrumentor().uninstrument()
    [span] = spans.all
    assert kind(span) == "RERANKER"
    assert [(document["id"], document["score"]) for document in described(span)] == [
        (node.node_id, node.score) for node in kept
    ]
    assert attributes(span)["qwen3_reranker.usage.tokens"] > 100


async def test_a_langchain_run_shows_the_documents_that_the_engine_scored(
    reranker: Reranker, compress: Compress, documents: list[Document]
) -> None:
    collector = RunCollectorCallbackHandler()
    adapter = LangChainRerank(reranker=reranker, top_n=2, trace_documents=True)
    kept = await compress(adapter, documents, LANGCHAIN_QUERY, callbacks=[collector])
    (run,) = collector.traced_runs
    assert run.run_type == "retriever"
    assert run.inputs["documents"] == documents
    assert run.outputs is not None
    assert run.outputs["documents"] == kept
    assert len(kept) == 2
