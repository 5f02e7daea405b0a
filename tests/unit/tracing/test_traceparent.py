"""The trace that a server continues."""

from __future__ import annotations

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from qwen3_reranker import (
    Reranker,
)

from support.helpers import either
from support.scripted_server import MODEL, ScriptedServer
from support.spans import (
    Spans,
    attributes,
    collected,
    traceparent,
)

QUERY = "a secret question"
TEXTS = ["first secret", "second secret", "third secret"]
RERANK = ["rerank", "arerank"]
SCORE = ["score", "ascore"]


def asked(server: ScriptedServer) -> list[str | None]:
    """Return the `traceparent` of each request for scores."""
    return [
        request.headers.get("traceparent")
        for request in server.requests
        if request.path == "/classify"
    ]


@pytest.mark.parametrize("method", [*RERANK, *SCORE])
async def test_a_server_continues_the_span(
    spans: Spans, remote: Reranker, server: ScriptedServer, method: str
) -> None:
    before = len(asked(server))
    await either(method)(remote, QUERY, TEXTS)
    [span] = spans.all
    [header] = asked(server)[before:]
    assert header is not None
    assert header.startswith(traceparent(span))
    assert attributes(span)["reranker.model_name"] == MODEL


def test_a_detection_belongs_to_the_call_that_needs_it(
    spans: Spans, server: ScriptedServer
) -> None:
    with Reranker(base_url=server.url) as reranker:
        reranker.rerank(QUERY, TEXTS)
    [span] = spans.all
    assert attributes(span)["reranker.model_name"] == MODEL  # known only after the detection
    for request in server.requests:
        assert request.headers["traceparent"].startswith(traceparent(span))


def test_each_of_many_queries_is_continued(
    spans: Spans, remote: Reranker, server: ScriptedServer
) -> None:
    before = len(asked(server))
    remote.rerank_many([(f"query {number}", ["text"]) for number in range(5)])
    headers = [header[:-2] for header in asked(server)[before:] if header]
    assert sorted(headers) == sorted(map(traceparent, spans.all))


def test_the_users_own_header_is_sent_unchanged(spans: Spans, server: ScriptedServer) -> None:
    own = {"TraceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with Reranker(base_url=server.url, headers=own) as reranker:
        reranker.rerank(QUERY, TEXTS)
    assert {request.headers["traceparent"] for request in server.requests} == {*own.values()}


def test_baggage_stays_in_the_program(
    spans: Spans, remote: Reranker, server: ScriptedServer
) -> None:
    token = context.attach(baggage.set_baggage("user", "alice"))
    try:
        remote.rerank(QUERY, TEXTS)
    finally:
        context.detach(token)
    assert "traceparent" in server.requests[-1].headers
    assert "baggage" not in server.requests[-1].headers


def test_without_propagators_nothing_is_sent(
    spans: Spans, remote: Reranker, server: ScriptedServer
) -> None:
    usual = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([]))  # as OTEL_PROPAGATORS=none does
    try:
        remote.rerank(QUERY, TEXTS)
    finally:
        propagate.set_global_textmap(usual)
    assert "traceparent" not in server.requests[-1].headers
    assert len(spans.all) == 1


def test_a_trace_that_is_not_sampled_is_continued_as_such(
    remote: Reranker, server: ScriptedServer
) -> None:
    with collected(sampler=ALWAYS_OFF) as spans:
        remote.rerank(QUERY, TEXTS)
    assert spans.all == []
    flags = int(server.requests[-1].headers["traceparent"][-2:], 16)
    assert flags & 1 == 0
