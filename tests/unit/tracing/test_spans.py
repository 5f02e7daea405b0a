"""The span of each query: what it contains, and which span it belongs to."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.trace import SpanKind, StatusCode

from qwen3_reranker import (
    EngineError,
    Prompt,
    Reranker,
    RerankerWarning,
    Scorer,
    Scores,
)

from support.helpers import AnsweringScorer, FaultyScorer, either
from support.spans import (
    Spans,
    attributes,
    collected,
    documents,
    id_of,
    parent_of,
)

QUERY = "a secret question"
TEXTS = ["first secret", "second secret", "third secret"]
TEXTS_VARIABLE = "QWEN3_RERANKER_TRACE_TEXTS"
RERANK = ["rerank", "arerank"]
SCORE = ["score", "ascore"]


@pytest.fixture
def reranker() -> Iterator[Reranker]:
    with Reranker(scorer=AnsweringScorer(0.2, 0.8, 0.5)) as reranker:
        yield reranker


def error_of(span: ReadableSpan) -> dict[str, Any]:
    """Return the exception that a span recorded."""
    [event] = [event for event in span.events if event.name == "exception"]
    return dict(event.attributes or {})


@pytest.mark.parametrize("method", RERANK)
async def test_a_span_describes_the_query_without_its_texts(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    await either(method)(reranker, QUERY, TEXTS, top_n=2)
    [span] = spans.all
    assert (span.name, span.kind) == ("qwen3_reranker.rerank", SpanKind.INTERNAL)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "openinference.span.kind": "RERANKER",
        "reranker.model_name": "answering",
        "reranker.top_k": 2,
        "reranker.output_documents.0.document.id": "1",
        "reranker.output_documents.0.document.score": 0.8,
        "reranker.output_documents.1.document.id": "2",
        "reranker.output_documents.1.document.score": 0.5,
        "qwen3_reranker.input_count": 3,
        "qwen3_reranker.output_count": 2,
    }
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("method", SCORE)
async def test_a_score_has_a_span_too(spans: Spans, reranker: Reranker, method: str) -> None:
    await either(method)(reranker, QUERY, TEXTS)
    [span] = spans.all
    assert span.name == "qwen3_reranker.score"
    assert attributes(span)["qwen3_reranker.input_count"] == 3


def test_a_span_says_what_the_query_cost(spans: Spans, remote: Reranker) -> None:
    usage = remote.rerank(QUERY, [*TEXTS, TEXTS[0], ""]).usage
    [span] = spans.all
    cost = {
        name.removeprefix("qwen3_reranker.usage."): value
        for name, value in attributes(span).items()
        if name.startswith("qwen3_reranker.usage.")
    }
    assert cost.items() <= asdict(usage).items()
    assert cost["scored"] == 3
    assert cost["scoring_seconds"] > 0
    assert cost.keys() <= {*asdict(usage)} - {"queries", "failures", "documents", "endpoints"}


def test_texts_are_recorded_where_they_are_asked_for(
    spans: Spans, reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TEXTS_VARIABLE, "1")
    reranker.rerank(QUERY, TEXTS, top_n=1)
    [span] = spans.all
    assert attributes(span)["reranker.query"] == QUERY
    assert documents(span) == [{"id": "1", "score": 0.8, "content": TEXTS[1]}]
    assert documents(span, "input") == [
        {"id": str(index), "content": text} for index, text in enumerate(TEXTS)
    ]


@pytest.mark.parametrize("hidden", ["INPUTS", "OUTPUTS"])
def test_what_openinference_hides_stays_hidden(
    spans: Spans, reranker: Reranker, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv(TEXTS_VARIABLE, "1")
    monkeypatch.setenv(f"OPENINFERENCE_HIDE_{hidden}", "True")
    reranker.rerank(QUERY, TEXTS)
    [span] = spans.all
    assert ("reranker.query" in attributes(span)) is (hidden == "OUTPUTS")
    assert bool(documents(span, "input")) is (hidden == "OUTPUTS")
    shown = [TEXTS[1], TEXTS[2], TEXTS[0]] if hidden == "INPUTS" else [None] * 3
    assert [document.get("content") for document in documents(span)] == shown


@settings(max_examples=30, deadline=None)
@given(
    given_count=st.integers(0, 300),
    limit=st.one_of(st.none(), st.integers(1, 900)),
    said=st.booleans(),
    texts=st.booleans(),
)
def test_the_best_documents_are_recorded_however_many_there_are(
    given_count: int, limit: int | None, said: bool, texts: bool
) -> None:
    """The SDK drops attributes above its limit, which a program may set without saying so."""
    scorer = AnsweringScorer(*(1 - index / 1000 for index in range(given_count)))
    limits = None if limit is None else SpanLimits(max_span_attributes=limit)
    with pytest.MonkeyPatch.context() as patch:
        if limit is not None and said:
            patch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", str(limit))
        if texts:
            patch.setenv(TEXTS_VARIABLE, "1")
        with collected(limits=limits) as spans, Reranker(scorer=scorer) as reranker:
            reranker.rerank(QUERY, [f"text {index}" for index in range(given_count)])
    [span] = spans.all
    found = attributes(span)
    if limit is None or said:
        assert span.dropped_attributes == 0 or (limit is not None and limit < 32)
    if limit is None or limit >= 32:
        assert found["openinference.span.kind"] == "RERANKER"
        assert found["qwen3_reranker.input_count"] == given_count
        assert found["qwen3_reranker.output_count"] == given_count
        kept = [name for name in found if name.startswith("reranker.output_documents.")]
        places = sorted({int(name.split(".")[2]) for name in kept})
        assert places == list(range(len(places)))  # the best ones
        if limit is None:
            assert len(places) == min(given_count, 32 if texts else 48)


def test_a_document_that_was_not_scored_has_no_score(spans: Spans) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("it broke")), on_error="keep_order")
    with pytest.warns(RerankerWarning):
        hits = reranker.rerank(QUERY, TEXTS, top_n=2)
    assert math.isnan(hits[0].score)
    [span] = spans.all
    assert documents(span) == [{"id": "0"}, {"id": "1"}]
    [event] = span.events
    assert (event.name, dict(event.attributes or {})) == (
        "qwen3_reranker.keep_order",
        {"error": "it broke"},
    )
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("method", [*RERANK, *SCORE])
async def test_a_failure_is_recorded(spans: Spans, method: str) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("it broke")))
    with pytest.raises(EngineError):
        await either(method)(reranker, QUERY, TEXTS)
    [span] = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "EngineError: it broke"
    assert error_of(span)["exception.message"] == "it broke"
    assert attributes(span)["reranker.model_name"] == "faulty"


async def test_the_span_of_a_canceled_call_ends(spans: Spans) -> None:
    scorer = FaultyScorer()
    call = asyncio.create_task(Reranker(scorer=scorer).arerank(QUERY, TEXTS))
    await asyncio.to_thread(scorer.waiting.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    [span] = spans.all
    assert [event.name for event in span.events] == ["canceled"]


@pytest.mark.parametrize("method", [*RERANK, *SCORE])
async def test_a_span_is_a_child_of_the_callers(
    spans: Spans, reranker: Reranker, method: str
) -> None:
    with spans.tracer.start_as_current_span("request"):
        await either(method)(reranker, QUERY, TEXTS)
        assert trace.get_current_span().name == "request"  # type: ignore[attr-defined]
    span, request = spans.all
    assert parent_of(span) == id_of(request)
    await either(method)(reranker, QUERY, TEXTS)
    assert parent_of(spans.all[-1]) is None


def test_each_threads_spans_are_children_of_its_own(spans: Spans) -> None:
    both = threading.Barrier(2)

    class MeetingScorer(AnsweringScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            await asyncio.to_thread(both.wait, 30)  # the calls overlap
            return await super().score(query, texts, instruction)

    reranker = Reranker(scorer=MeetingScorer(0.5))

    def request(name: str) -> None:
        with spans.tracer.start_as_current_span(name):
            reranker.rerank(name, ["text"])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(request, ["a", "b"]))
    requests = {id_of(span): span for span in spans.all if span.name in "ab"}
    assert {parent_of(span) for span in spans.rerankers} == set(requests)
    for span in spans.rerankers:
        assert span.context.trace_id == requests[parent_of(span) or ""].context.trace_id


class NestedScorer(Scorer):
    """Asks another reranker, and makes a span of its own."""

    model = "nested"

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._inner = Reranker(scorer=AnsweringScorer(0.5))

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        with self._spans.tracer.start_as_current_span("cascade"):
            hits = await self._inner.arerank(query, texts)
        return Scores([hit.score for hit in hits], [False] * len(hits))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


@pytest.mark.parametrize("method", RERANK)
async def test_what_a_scorer_does_is_part_of_the_span(spans: Spans, method: str) -> None:
    """The scorer runs on the package's own event loop, in another thread."""
    await either(method)(Reranker(scorer=NestedScorer(spans)), QUERY, ["text"])
    inner, cascade, outer = spans.all
    assert parent_of(inner) == id_of(cascade)
    assert parent_of(cascade) == id_of(outer)
    assert attributes(inner)["reranker.model_name"] == "answering"
    assert attributes(outer)["reranker.model_name"] == "nested"
