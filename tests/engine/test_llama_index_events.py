"""What the LlamaIndex postprocessor reports: events, callbacks and spans, also on errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import PrivateAttr

from qwen3_reranker import Reranker
from qwen3_reranker.llama_index import Qwen3Rerank

from support.helpers import FaultyScorer
from support.llama_index_helpers import QUERY, Rerank, ids, scores_of


class Recorder(BaseEventHandler):
    """Keeps the events that are dispatched."""

    _events: list[BaseEvent] = PrivateAttr(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self._events.append(event)

    @property
    def reranks(self) -> list[Any]:
        return [e for e in self._events if isinstance(e, ReRankStartEvent | ReRankEndEvent)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    root, recorder = get_dispatcher(), Recorder()
    root.add_event_handler(recorder)
    yield recorder
    root.event_handlers.remove(recorder)


@pytest.fixture
def spans() -> Iterator[SimpleSpanHandler]:
    root, handler = get_dispatcher(), SimpleSpanHandler()
    root.add_span_handler(handler)
    yield handler
    root.span_handlers.remove(handler)


@pytest.fixture
def debug() -> LlamaDebugHandler:
    return LlamaDebugHandler(print_trace_on_end=False)


@pytest.mark.parametrize(("top_n", "shown"), [(2, 2), (None, 5), (100, 100)])
async def test_events_come_in_pairs(
    reranker: Reranker,
    nodes: list[NodeWithScore],
    rerank: Rerank,
    recorder: Recorder,
    debug: LlamaDebugHandler,
    top_n: int | None,
    shown: int,
) -> None:
    manager = CallbackManager([debug])
    adapter = Qwen3Rerank(reranker=reranker, top_n=top_n, callback_manager=manager)
    kept = await rerank(adapter, nodes, query_str=QUERY)
    start, end = recorder.reranks
    assert isinstance(start, ReRankStartEvent)
    assert isinstance(start.query, QueryBundle)
    assert start.query.query_str == QUERY
    assert (ids(start.nodes), scores_of(start.nodes)) == (ids(nodes), scores_of(nodes))
    assert (start.top_n, start.model_name) == (shown, "demo")
    assert isinstance(end, ReRankEndEvent)
    assert (ids(end.nodes), scores_of(end.nodes)) == (ids(kept), scores_of(kept))
    [[started, ended]] = debug.get_event_pairs(CBEventType.RERANKING)
    assert started.payload == {
        EventPayload.NODES: nodes,
        EventPayload.MODEL_NAME: "demo",
        EventPayload.QUERY_STR: QUERY,
        EventPayload.TOP_K: shown,
    }
    cost = end.tags
    assert cost.keys() == {"tokens", "seconds"}
    assert cost["tokens"] > len(nodes)
    assert cost["seconds"] > 0
    assert ended.payload == {EventPayload.NODES: kept, EventPayload.ADDITIONAL_KWARGS: cost}
    assert start.tags == {}


@pytest.mark.parametrize("top_n", [3, None])
async def test_events_come_in_pairs_on_empty_input(
    rerank: Rerank, recorder: Recorder, debug: LlamaDebugHandler, top_n: int | None
) -> None:
    # No engine has to start for this.
    with Qwen3Rerank(model="demo", top_n=top_n, callback_manager=CallbackManager([debug])) as empty:
        assert await rerank(empty, [], query_str=QUERY) == []
    start, end = recorder.reranks
    assert (start.nodes, start.top_n, end.nodes) == ([], top_n or 0, [])
    [[_, ended]] = debug.get_event_pairs(CBEventType.RERANKING)
    assert ended.payload == {EventPayload.NODES: [], EventPayload.ADDITIONAL_KWARGS: end.tags}
    assert end.tags["tokens"] == 0


async def test_events_come_in_pairs_on_errors(
    nodes: list[NodeWithScore],
    rerank: Rerank,
    recorder: Recorder,
    debug: LlamaDebugHandler,
    spans: SimpleSpanHandler,
) -> None:
    broken = Reranker(scorer=FaultyScorer(RuntimeError("out of memory")))
    adapter = Qwen3Rerank(reranker=broken, callback_manager=CallbackManager([debug]))
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        await rerank(adapter, nodes, query_str=QUERY)
    start, end = recorder.reranks
    assert (type(start), type(end)) == (ReRankStartEvent, ReRankEndEvent)
    assert (ids(end.nodes), scores_of(end.nodes)) == (ids(nodes), scores_of(nodes))
    assert end.tags == {}
    [[_, ended]] = debug.get_event_pairs(CBEventType.RERANKING)
    assert ended.payload == {EventPayload.EXCEPTION: caught.value}
    assert [span.metadata for span in spans.dropped_spans] == [{"error": "out of memory"}]
    assert not spans.open_spans


async def test_canceling_stops_the_work_and_ends_the_events(
    nodes: list[NodeWithScore], recorder: Recorder, debug: LlamaDebugHandler
) -> None:
    stuck = FaultyScorer()
    adapter = Qwen3Rerank(
        reranker=Reranker(scorer=stuck), callback_manager=CallbackManager([debug])
    )
    task = asyncio.create_task(adapter.apostprocess_nodes(nodes, query_str=QUERY))
    assert await asyncio.to_thread(stuck.waiting.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stuck.cancelled.wait, 10)
    assert [type(event) for event in recorder.reranks] == [ReRankStartEvent, ReRankEndEvent]
    [pair] = debug.get_event_pairs(CBEventType.RERANKING)
    assert len(pair) == 2


async def test_events_belong_to_a_span_of_the_call(
    reranker: Reranker,
    nodes: list[NodeWithScore],
    rerank: Rerank,
    recorder: Recorder,
    spans: SimpleSpanHandler,
) -> None:
    await rerank(Qwen3Rerank(reranker=reranker), nodes, query_str=QUERY)
    [span] = spans.completed_spans
    assert span.id_.startswith(("Qwen3Rerank._postprocess", "Qwen3Rerank._apostprocess"))
    assert {event.span_id for event in recorder.reranks} == {span.id_}


async def test_concurrent_calls_each_have_their_pair(
    reranker: Reranker, nodes: list[NodeWithScore], recorder: Recorder, debug: LlamaDebugHandler
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, callback_manager=CallbackManager([debug]))
    queries = [QUERY, "square root", "write JSON", "make a directory"]
    results = await asyncio.gather(
        *(adapter.apostprocess_nodes(nodes, query_str=query) for query in queries)
    )
    starts = {e.span_id: e for e in recorder.reranks if isinstance(e, ReRankStartEvent)}
    ends = {e.span_id: e for e in recorder.reranks if isinstance(e, ReRankEndEvent)}
    assert {str(starts[span].query): ids(ends[span].nodes) for span in starts} == {
        query: ids(kept) for query, kept in zip(queries, results, strict=True)
    }
    pairs = debug.get_event_pairs(CBEventType.RERANKING)
    assert [len(pair) for pair in pairs] == [2] * len(queries)
