"""The LlamaIndex postprocessor by itself: what it returns, leaves alone, reports and shows."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from pydantic import AnyUrl, PrivateAttr, ValidationError

from qwen3_reranker import DEFAULT_MODEL, ClosedError, InputError, Reranker
from qwen3_reranker.llama_index import Qwen3Rerank

from helpers import INSTRUCTION, SECRET, SETTINGS, FaultyScorer, either

QUERY = "read the rows of a csv file"
TEXTS = {
    "Lock": "threading.Lock()\n\nA lock object that excludes other threads.",
    "makedirs": "os.makedirs(name)\n\nCreate a leaf directory and all intermediate ones.",
    "reader": "csv.reader(csvfile)\n\nReturn a reader object that will process lines from the "
    "given csvfile, row by row.",
    "dumps": "json.dumps(obj)\n\nSerialize obj to a JSON formatted str.",
    "sqrt": "math.sqrt(x)\n\nReturn the square root of x.",
}

Rerank = Callable[..., Awaitable[list[NodeWithScore]]]


@pytest.fixture(params=["postprocess_nodes", "apostprocess_nodes"])
def rerank(request: pytest.FixtureRequest) -> Rerank:
    """Call the sync or the async method; what holds for one holds for the other."""
    return either(request.param)


@pytest.fixture
def nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(id_=name, text=text, metadata={"place": place, "nested": [place]}),
            score=0.9 - place / 10,
        )
        for place, (name, text) in enumerate(TEXTS.items())
    ]


def ids(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [item.node_id for item in nodes]


def scores_of(nodes: Sequence[NodeWithScore]) -> list[float]:
    return [item.get_score(raise_error=True) for item in nodes]


def texts_of(nodes: Sequence[NodeWithScore], mode: MetadataMode = MetadataMode.EMBED) -> list[str]:
    return [item.get_content(mode) for item in nodes]


def by_id(nodes: Sequence[NodeWithScore]) -> dict[str, float]:
    return dict(zip(ids(nodes), scores_of(nodes), strict=True))


def close_to(scores: Any) -> Any:
    return pytest.approx(scores, abs=1e-4)


def dump(nodes: Sequence[NodeWithScore]) -> list[dict[str, Any]]:
    return copy.deepcopy([item.model_dump() for item in nodes])


# What is returned


async def test_the_node_that_answers_comes_first(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    best, *_ = await rerank(Qwen3Rerank(reranker=reranker), nodes, query_str=QUERY)
    assert best.node_id == "reader"


@pytest.mark.parametrize("top_n", [1, 2, None, 100])
async def test_scores_are_the_rerankers_best_first(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank, top_n: int | None
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=top_n)
    kept = await rerank(adapter, nodes, query_bundle=QueryBundle(QUERY))
    expected = dict(zip(ids(nodes), reranker.score(QUERY, texts_of(nodes)), strict=True))
    assert by_id(kept) == close_to({name: expected[name] for name in ids(kept)})
    assert scores_of(kept) == close_to(sorted(expected.values(), reverse=True)[:top_n])
    assert all(a >= b for a, b in pairwise(scores_of(kept)))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.sampled_from([*TEXTS.values(), "", " \n", "\u3000"]), max_size=8),
    top_n=st.none() | st.integers(1, 9),
    min_score=st.none() | st.floats(0, 1),
)
def test_it_ranks_as_the_reranker_does(
    reranker: Reranker, texts: list[str], top_n: int | None, min_score: float | None
) -> None:
    nodes = [NodeWithScore(node=TextNode(id_=str(i), text=text)) for i, text in enumerate(texts)]
    adapter = Qwen3Rerank(reranker=reranker, top_n=top_n, min_score=min_score)
    kept = adapter.postprocess_nodes(nodes, query_str=QUERY)
    hits = reranker.rerank(QUERY, texts, top_n=top_n, min_score=min_score)
    assert ids(kept) == [str(hit.index) for hit in hits]
    assert scores_of(kept) == close_to([hit.score for hit in hits])


async def test_three_are_kept_by_default(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    assert len(await rerank(Qwen3Rerank(reranker=reranker), nodes, query_str=QUERY)) == 3


async def test_min_score_keeps_those_that_reach_it(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    everything = await rerank(Qwen3Rerank(reranker=reranker, top_n=None), nodes, query_str=QUERY)
    between = sum(scores_of(everything)[1:3]) / 2
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, min_score=between)
    assert ids(await rerank(adapter, nodes, query_str=QUERY)) == ids(everything)[:2]


async def test_the_instruction_is_the_adapters(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, instruction=INSTRUCTION, top_n=None)
    kept = await rerank(adapter, nodes, query_str=QUERY)
    expected = reranker.score(QUERY, texts_of(nodes), instruction=INSTRUCTION)
    assert scores_of(kept) == close_to(sorted(expected, reverse=True))
    default = sorted(reranker.score(QUERY, texts_of(nodes)), reverse=True)
    assert scores_of(kept) != close_to(default)


@pytest.mark.parametrize("mode", MetadataMode)
async def test_the_metadata_mode_says_what_is_read(
    reranker: Reranker, rerank: Rerank, mode: MetadataMode
) -> None:
    node = TextNode(
        text="Nothing to see here.",
        metadata={"seen": "math.sqrt", "llm": TEXTS["reader"], "embed": TEXTS["dumps"]},
        excluded_embed_metadata_keys=["llm"],
        excluded_llm_metadata_keys=["embed"],
    )
    texts = [node.get_content(each) for each in MetadataMode]
    expected = dict(zip(MetadataMode, reranker.score(QUERY, texts), strict=True))
    assert (
        min(b - a for a, b in pairwise(sorted(expected.values()))) > 2e-4
    )  # else this shows nothing
    adapter = Qwen3Rerank(reranker=reranker, metadata_mode=mode)
    [kept] = await rerank(adapter, [NodeWithScore(node=node)], query_str=QUERY)
    assert kept.score == close_to(expected[mode])


def test_the_metadata_mode_is_embed_by_default() -> None:
    assert Qwen3Rerank(model="demo").metadata_mode is MetadataMode.EMBED


# What is left alone


@pytest.mark.parametrize("keep_retrieval_score", [False, True])
async def test_the_callers_nodes_stay_as_they_were(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank, keep_retrieval_score: bool
) -> None:
    before, items = dump(nodes), list(nodes)
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, keep_retrieval_score=keep_retrieval_score)
    kept = await rerank(adapter, nodes, query_str=QUERY)
    assert kept is not nodes
    assert not {id(item) for item in kept} & {id(item) for item in items}
    assert [id(item) for item in nodes] == [id(item) for item in items]
    assert dump(nodes) == before


async def test_a_list_that_changes_meanwhile_does_no_harm(
    reranker: Reranker, nodes: list[NodeWithScore]
) -> None:
    adapter = Qwen3Rerank(reranker=reranker)
    expected = by_id(await adapter.apostprocess_nodes(nodes, query_str=QUERY))
    task = asyncio.create_task(adapter.apostprocess_nodes(nodes, query_str=QUERY))
    await asyncio.sleep(0)
    nodes.reverse()
    nodes.pop()
    assert by_id(await task) == close_to(expected)


async def test_nodes_are_shared_and_as_they_came_by_default(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    kept = await rerank(Qwen3Rerank(reranker=reranker), nodes, query_str=QUERY)
    given = {item.node_id: item.node for item in nodes}
    assert all(item.node is given[item.node_id] for item in kept)
    assert all("retrieval_score" not in item.metadata for item in kept)


async def test_a_subclass_of_node_with_score_keeps_its_class_and_fields(
    reranker: Reranker, rerank: Rerank
) -> None:
    class Cited(NodeWithScore):
        page: int

    cited = Cited(node=TextNode(text=TEXTS["sqrt"]), score=0.5, page=7)
    [kept] = await rerank(Qwen3Rerank(reranker=reranker), [cited], query_str=QUERY)
    assert isinstance(kept, Cited)
    assert kept.page == 7
    assert kept.score != 0.5


# The retrieval score


async def test_the_retrieval_score_is_kept_in_a_copy(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    nodes[0].score = None
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, keep_retrieval_score=True)
    kept = await rerank(adapter, nodes, query_str=QUERY)
    given = {item.node_id: item for item in nodes}
    for item in kept:
        came = given[item.node_id]
        assert item.metadata == {**came.metadata, "retrieval_score": came.score}
        assert type(item.node) is type(came.node)
        assert item.get_content(MetadataMode.NONE) == came.get_content(MetadataMode.NONE)


async def test_the_retrieval_score_enters_no_text(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, keep_retrieval_score=True)
    once = await rerank(adapter, nodes, query_str=QUERY)
    twice = await rerank(adapter, once, query_str=QUERY)
    given = {item.node_id: item for item in nodes}
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        for item in [*once, *twice]:
            assert item.get_content(mode) == given[item.node_id].get_content(mode)
    assert by_id(twice) == close_to(by_id(once))
    # The second time, what each node came with is the first time's score.
    assert {item.node_id: item.metadata["retrieval_score"] for item in twice} == by_id(once)
    assert all(item.node.excluded_embed_metadata_keys == ["retrieval_score"] for item in twice)


# Nodes without text


TEXTLESS: list[BaseNode] = [
    ImageNode(id_="image", image_url="https://example.org/csv.png"),
    ImageNode(id_="captioned", image_path="a.png", metadata={"caption": TEXTS["reader"]}),
    Node(
        id_="resource",
        image_resource=MediaResource(url=AnyUrl("https://example.org/csv.png")),
        extra_info={"caption": TEXTS["reader"]},
    ),
    TextNode(id_="blank", text=" \n\t", metadata={"title": TEXTS["reader"]}),
    Document(id_="empty document", metadata={"title": TEXTS["reader"]}),
]


@pytest.mark.parametrize("mode", MetadataMode)
async def test_nodes_without_text_go_last_with_nothing(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank, mode: MetadataMode
) -> None:
    textless = [NodeWithScore(node=node, score=1.0) for node in TEXTLESS]
    adapter = Qwen3Rerank(reranker=reranker, top_n=None, metadata_mode=mode)
    kept = await rerank(adapter, [*textless, *nodes], query_str=QUERY)
    assert ids(kept)[: len(nodes)] == ids(await rerank(adapter, nodes, query_str=QUERY))
    assert ids(kept)[len(nodes) :] == [node.node_id for node in TEXTLESS]
    assert scores_of(kept)[len(nodes) :] == [0.0] * len(TEXTLESS)


async def test_nodes_without_text_are_dropped_by_the_limits_alone(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    mixed = [NodeWithScore(node=TEXTLESS[0]), *nodes]
    by_top_n = Qwen3Rerank(reranker=reranker, top_n=len(nodes))
    by_score = Qwen3Rerank(reranker=reranker, top_n=None, min_score=1e-9)
    assert "image" not in ids(await rerank(by_top_n, mixed, query_str=QUERY))
    assert "image" not in ids(await rerank(by_score, mixed, query_str=QUERY))
    by_score.min_score = 0
    assert ids(await rerank(by_score, mixed, query_str=QUERY))[-1] == "image"


async def test_images_and_objects_with_text_are_judged_by_it(
    reranker: Reranker, rerank: Rerank
) -> None:
    kinds: list[BaseNode] = [
        ImageNode(id_="image", text=TEXTS["reader"], image_path="a.png"),
        IndexNode(id_="index", text=TEXTS["reader"], index_id="x", obj=object()),
        Document(id_="document", text=TEXTS["reader"]),
    ]
    adapter = Qwen3Rerank(reranker=reranker, keep_retrieval_score=True)
    kept = await rerank(adapter, [NodeWithScore(node=node) for node in kinds], query_str=QUERY)
    assert ids(kept) == ["image", "index", "document"]  # a tie keeps the order given
    [expected] = reranker.score(QUERY, [TEXTS["reader"]])
    assert scores_of(kept) == close_to([expected] * 3)


# The query


async def test_a_missing_query_is_the_conventional_error(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    for some in (nodes, []):
        with pytest.raises(ValueError, match=r"Missing query bundle in extra info\."):
            await rerank(Qwen3Rerank(reranker=reranker), some)


async def test_a_blank_query_is_refused(
    reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank
) -> None:
    with pytest.raises(InputError, match="query is blank"):
        await rerank(Qwen3Rerank(reranker=reranker), nodes, query_str=" ")


# Events and spans


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
    assert ended.payload == {EventPayload.NODES: kept}


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
    assert ended.payload == {EventPayload.NODES: []}


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
    [[_, ended]] = debug.get_event_pairs(CBEventType.RERANKING)
    assert ended.payload == {EventPayload.EXCEPTION: caught.value}
    assert [span.metadata for span in spans.dropped_spans] == [{"error": "out of memory"}]
    assert not spans.open_spans


async def test_cancelling_stops_the_work_and_ends_the_events(
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


# Construction


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_n": 0}, "top_n=0: give a whole number of at least 1"),
        ({"top_n": -1}, "top_n=-1"),
        ({"top_n": True}, "top_n=True"),
        ({"top_n": "3"}, "top_n='3'"),
        ({"min_score": 2}, r"min_score=2: scores are probabilities"),
        ({"min_score": float("nan")}, "min_score=nan"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": True}, "max_length"),
        ({"metadata_mode": "some"}, "metadata_mode"),
        ({"instruction": 1}, "instruction"),
        ({"top_k": 3}, "top_k"),
        ({"api_key": SECRET}, "api_key"),
        ({"engine_args": SECRET}, "engine_args"),
        ({"reranker": "demo", "engine_args": {"hf_token": SECRET}}, "reranker"),
    ],
)
def test_a_wrong_argument_is_named_at_construction(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Qwen3Rerank(**{"model": "demo", **wrong})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [{"model": "demo"}, {"model": DEFAULT_MODEL}, {"max_length": 512}, {"engine_args": {}}],
)
def test_a_ready_reranker_comes_without_settings_of_its_own(settings: dict[str, Any]) -> None:
    ready = Reranker("demo")
    with pytest.raises(ValueError, match=f"reranker= is given, and {next(iter(settings))} too"):
        Qwen3Rerank(reranker=ready, **settings)
    assert Qwen3Rerank(reranker=ready, max_length=None, engine_args=None).reranker is ready


def test_a_wrong_value_is_refused_at_assignment_too() -> None:
    adapter = Qwen3Rerank(model="demo")
    wrongs: dict[str, Any] = {"top_n": 0, "min_score": 2, "top_k": 3, "model": "other"}
    for name, value in wrongs.items():
        with pytest.raises(ValueError, match=name):
            setattr(adapter, name, value)
    adapter.top_n = 7
    assert adapter.top_n == 7


def test_the_class_is_what_llama_index_looks_for() -> None:
    assert "BaseNodePostprocessor" in [base.__name__ for base in Qwen3Rerank.__mro__]
    assert issubclass(Qwen3Rerank, BaseNodePostprocessor)
    assert Qwen3Rerank.class_name() == "Qwen3Rerank"


def test_settings_survive_to_dict_and_from_dict() -> None:
    adapter = Qwen3Rerank(
        model="demo",
        instruction=INSTRUCTION,
        top_n=None,
        min_score=0.25,
        max_length=512,
        metadata_mode=MetadataMode.LLM,
        keep_retrieval_score=True,
    )
    data = adapter.to_dict()
    assert data["class_name"] == "Qwen3Rerank"
    assert Qwen3Rerank.from_dict(data).to_dict() == data
    assert Qwen3Rerank.from_json(adapter.to_json()).to_dict() == data
    assert json.loads(adapter.to_json())["min_score"] == 0.25


def test_no_secret_is_shown() -> None:
    adapter = Qwen3Rerank(model="demo", engine_args={"hf_token": SECRET})
    shown = [repr(adapter), str(adapter), adapter.to_json(), f"{adapter.to_dict()}"]
    shown += [adapter.model_dump_json(), f"{Qwen3Rerank.model_json_schema()}"]
    assert all("demo" in text for text in shown[:-1])
    assert not [text for text in shown if SECRET in text]


def test_a_ready_rerankers_model_is_shown() -> None:
    adapter = Qwen3Rerank(reranker=Reranker("demo"))
    assert adapter.model == "demo"
    assert adapter.to_dict()["model"] == "demo"


# Copies, pickles, closing


COPIES: list[Callable[[Qwen3Rerank], Qwen3Rerank]] = [
    copy.copy,
    copy.deepcopy,
    Qwen3Rerank.model_copy,
    lambda adapter: adapter.model_copy(deep=True),
]


@pytest.mark.parametrize("duplicate", COPIES)
def test_a_copy_shares_a_ready_reranker_and_the_callbacks(
    reranker: Reranker, nodes: list[NodeWithScore], duplicate: Callable[[Qwen3Rerank], Qwen3Rerank]
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=2, instruction=INSTRUCTION)
    again = duplicate(adapter)
    assert again is not adapter
    assert again.reranker is reranker
    assert again.callback_manager is adapter.callback_manager
    assert again.to_dict() == adapter.to_dict()
    assert len(again.postprocess_nodes(nodes, query_str=QUERY)) == 2


@pytest.mark.parametrize("duplicate", [*COPIES, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_has_the_settings_and_is_closed_for_itself(
    reranker: Reranker, nodes: list[NodeWithScore], duplicate: Callable[[Qwen3Rerank], Qwen3Rerank]
) -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    with Qwen3Rerank(**SETTINGS, top_n=2, callback_manager=CallbackManager([handler])) as adapter:
        again = duplicate(adapter)
        assert again.to_dict() == adapter.to_dict()
        assert again.engine_args == SETTINGS["engine_args"]
        again.close()
        with pytest.raises(ClosedError):
            again.postprocess_nodes(nodes, query_str=QUERY)
        assert len(adapter.postprocess_nodes(nodes, query_str=QUERY)) == 2


def test_what_a_copy_updates_is_validated() -> None:
    adapter = Qwen3Rerank(model="demo", top_n=5)
    assert adapter.model_copy(update={"min_score": 0.5}).top_n == 5
    assert adapter.model_copy(update={"max_length": 512}).max_length == 512
    for update in ({"top_n": 0}, {"top_k": 3}):
        with pytest.raises(ValidationError):
            adapter.model_copy(update=update)


def test_a_ready_reranker_cannot_be_pickled(reranker: Reranker) -> None:
    with pytest.raises(TypeError, match="ready reranker cannot be pickled: give it model="):
        pickle.dumps(Qwen3Rerank(reranker=reranker))


async def test_a_reranker_that_was_handed_in_stays_open(
    reranker: Reranker, nodes: list[NodeWithScore]
) -> None:
    with Qwen3Rerank(reranker=reranker) as adapter:
        pass
    async with adapter:
        pass
    assert len(adapter.postprocess_nodes(nodes, query_str=QUERY)) == 3


async def test_a_reranker_of_its_own_is_closed(nodes: list[NodeWithScore]) -> None:
    with Qwen3Rerank(model="demo") as first:
        pass
    async with Qwen3Rerank(model="demo") as second:
        pass
    for adapter in (first, second):
        with pytest.raises(ClosedError):
            adapter.postprocess_nodes(nodes, query_str=QUERY)
        with pytest.raises(ClosedError):
            await adapter.apostprocess_nodes(nodes, query_str=QUERY)


# Imports


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_importing_it_loads_no_engine() -> None:
    out = run_python(
        "import sys, qwen3_reranker.llama_index as module\n"
        "module.Qwen3Rerank(model='demo')\n"
        "print(sorted({'vllm', 'torch', 'transformers', 'langchain_core'} & set(sys.modules)))"
    )
    assert out.strip() == "[]"


def test_a_missing_llama_index_is_named_with_its_extra() -> None:
    out = run_python(
        "import sys\n"
        "sys.modules['llama_index'] = None\n"
        "from qwen3_reranker import MissingDependencyError\n"
        "try:\n"
        "    import qwen3_reranker.llama_index\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    assert "pip install 'qwen3-reranker[llama-index]'" in out
