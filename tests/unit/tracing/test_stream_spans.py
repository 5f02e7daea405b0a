"""The spans of streams of queries, one per query."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.trace import StatusCode

from qwen3_reranker import (
    Reranker,
    Scores,
    ServerError,
    event_loop,
)

from support.helpers import AnsweringScorer, either
from support.scripted_server import Reply, ScriptedServer
from support.spans import (
    Spans,
    attributes,
    documents,
    id_of,
    parent_of,
)

MANY = ["rerank_many", "arerank_many"]


@pytest.mark.parametrize("method", MANY)
async def test_each_of_many_queries_has_a_span(spans: Spans, remote: Reranker, method: str) -> None:
    pairs = [(f"query {number}", [f"text {number}"] * number) for number in range(1, 6)]
    with spans.tracer.start_as_current_span("request"):
        await either(method)(remote, pairs, top_n=3)
    *found, request = spans.all
    assert [attributes(span)["qwen3_reranker.input_count"] for span in found] == [1, 2, 3, 4, 5]
    assert [len(documents(span)) for span in found] == [1, 2, 3, 3, 3]
    assert {attributes(span)["reranker.top_k"] for span in found} == {3}
    assert {parent_of(span) for span in found} == {id_of(request)}


class OverlappingScorer(AnsweringScorer):
    """Answers the first query when the second one has begun, and the second one if it may."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__(0.5)
        self._hangs = hangs
        self._begun = threading.Event()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if query == "first":
            await asyncio.to_thread(self._begun.wait, 30)
        else:
            self._begun.set()
            if self._hangs:
                await asyncio.sleep(600)
        return await super().score(query, texts, instruction)


PAIRS = [("first", ["a"]), ("second", ["b"])]


def test_a_streams_spans_end_with_the_scores_and_not_with_the_reader(spans: Spans) -> None:
    stream = Reranker(scorer=OverlappingScorer(hangs=False)).rerank_iter(PAIRS)
    next(stream)
    for _ in range(10):  # steps of the event loop, in the first of which the second is answered
        event_loop.run(asyncio.sleep(0))
    with spans.tracer.start_as_current_span("much later") as later:
        next(stream)
    second = spans.rerankers[1]
    assert second.end_time is not None
    assert second.end_time < later.start_time  # type: ignore[attr-defined]


@pytest.mark.parametrize("closed", [True, False])
def test_the_spans_of_an_abandoned_stream_end(spans: Spans, closed: bool) -> None:
    stream = Reranker(scorer=OverlappingScorer(hangs=True)).rerank_iter(PAIRS)
    next(stream)
    if closed:
        stream.close()  # type: ignore[attr-defined]
    else:
        del stream
    assert [[event.name for event in span.events] for span in spans.all] == [[], ["canceled"]]


@pytest.mark.parametrize("method", MANY)
async def test_the_failure_of_one_query_is_its_own(
    spans: Spans, remote: Reranker, server: ScriptedServer, method: str
) -> None:
    server.first(Reply({"detail": "no"}, 400))
    with pytest.raises(ServerError):
        await either(method)(remote, [("first", ["a"]), ("second", ["b"])])
    assert spans.all[0].status.status_code is StatusCode.ERROR
    assert {span.status.status_code for span in spans.all[1:]} <= {StatusCode.UNSET}
