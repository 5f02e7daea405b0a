"""The LlamaIndex postprocessor by itself: what it returns, leaves alone and reads."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
from pydantic import AnyUrl

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.llama_index import Qwen3Rerank

from support.helpers import INSTRUCTION
from support.llama_index_helpers import QUERY, TEXTS, Rerank, ids, scores_of


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
