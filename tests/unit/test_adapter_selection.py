"""Duplicates and token budgets in both adapters: what is compared, counted, cut and shown."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.schema import (
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from pydantic import ValidationError

from qwen3_reranker import Reranker, RerankerWarning
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.adapters import ADAPTERS, shown
from support.helpers import DescendingScorer, either

QUERY = "query"
TEXTS = [
    "one two three four five six",
    "seven eight nine",
    "One, two, three, four, five, six!",
    "ten eleven twelve thirteen",
]


def count_words(text: str) -> int:
    return len(text.split())


def make_documents() -> list[Document]:
    return [
        Document(text, id=str(n), metadata={"n": n, "title": f"A title of {n}"})
        for n, text in enumerate(TEXTS)
    ]


def make_nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(
            node=TextNode(
                text=text,
                id_=str(n),
                metadata={"n": n},
                start_char_idx=100,
                end_char_idx=100 + len(text),
                relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="source")},
            ),
            score=0.1,
        )
        for n, text in enumerate(TEXTS)
    ]


compress = either("compress_documents"), either("acompress_documents")
postprocess = either("postprocess_nodes"), either("apostprocess_nodes")


async def chain(adapter: Any, documents: list[Document], query: str) -> Any:
    return adapter.as_runnable().invoke({"query": query, "documents": documents})


async def achain(adapter: Any, documents: list[Document], query: str) -> Any:
    return await adapter.as_runnable().ainvoke({"query": query, "documents": documents})


@pytest.mark.parametrize("call", [*compress, chain, achain])
async def test_langchain(call: Any) -> None:
    documents, original = make_documents(), make_documents()
    adapter = LangChainRerank(reranker=Reranker(scorer=DescendingScorer()), top_n=None)
    adapter.drop_duplicates = True
    assert [d.id for d in await call(adapter, documents, QUERY)] == ["0", "1", "3"]
    adapter.token_budget, adapter.token_counter = 11, count_words
    assert [d.id for d in await call(adapter, documents, QUERY)] == ["0", "1"]
    adapter.cut_last = True
    first, second, last = await call(adapter, documents, QUERY)
    assert (first.page_content, second.page_content) == (TEXTS[0], TEXTS[1])
    assert last.page_content == "ten eleven"
    assert last.id == "3"
    assert last.metadata["title"] == "A title of 3"
    assert last.metadata["rerank_cut"] is True
    assert "rerank_cut" not in first.metadata
    assert documents == original


@pytest.mark.parametrize("call", compress)
async def test_langchain_counts_and_compares_page_contents_not_what_is_scored(call: Any) -> None:
    adapter = LangChainRerank(
        reranker=Reranker(scorer=DescendingScorer()),
        top_n=None,
        document_template="{title} and many more words that are equal in all\n{page_content}",
        drop_duplicates=0.3,
        token_budget=9,
        token_counter=count_words,
    )
    kept = await call(adapter, make_documents(), QUERY)
    assert [(d.id, d.page_content) for d in kept] == [("0", TEXTS[0]), ("1", TEXTS[1])]


@pytest.mark.parametrize("call", compress)
async def test_langchains_run_shows_what_is_kept(call: Any) -> None:
    adapter = LangChainRerank(
        reranker=Reranker(scorer=DescendingScorer()),
        drop_duplicates=True,
        token_budget=9,
        token_counter=count_words,
    )
    collector = RunCollectorCallbackHandler()
    await call(adapter, make_documents(), QUERY, callbacks=[collector])
    [run] = collector.traced_runs
    assert run.inputs["drop_duplicates"] is True
    assert run.inputs["token_budget"] == 9
    assert "cut_last" not in run.inputs
    assert run.outputs is not None
    assert (run.outputs["documents"], run.outputs["indexes"]) == (2, [0, 1])
    json.dumps(run.inputs)


@pytest.mark.parametrize("call", postprocess)
async def test_llama_index(call: Any) -> None:
    nodes, original = make_nodes(), make_nodes()
    adapter = LlamaIndexRerank(reranker=Reranker(scorer=DescendingScorer()), top_n=None)
    adapter.drop_duplicates = True
    assert [n.node_id for n in await call(adapter, nodes, query_str=QUERY)] == ["0", "1", "3"]
    # "n: 0" and a blank line come before each text.
    adapter.token_budget, adapter.token_counter = 17, count_words
    assert [n.node_id for n in await call(adapter, nodes, query_str=QUERY)] == ["0", "1"]
    adapter.cut_last = True
    first, second, last = await call(adapter, nodes, query_str=QUERY)
    assert (first.node.text, second.node.text) == (TEXTS[0], TEXTS[1])
    assert last.node.text == "ten eleven"
    assert (last.node.start_char_idx, last.node.end_char_idx) == (100, 110)
    assert last.node_id == "3"
    assert last.node.source_node.node_id == "source"
    assert last.score == 0.2
    assert last.node.metadata == {"n": 3, "rerank_cut": True}
    read = [n.node.get_content(metadata_mode=MetadataMode.LLM) for n in (first, second, last)]
    assert read[2] == "n: 3\n\nten eleven"
    assert sum(map(count_words, read)) == 17
    assert nodes == original


@pytest.mark.parametrize("call", postprocess)
async def test_llama_indexs_end_events_carry_what_is_kept(call: Any) -> None:
    ended: list[list[NodeWithScore]] = []

    class Handler(BaseEventHandler):
        def handle(self, event: Any, **_: Any) -> None:
            if isinstance(event, ReRankEndEvent):
                ended.append(event.nodes)

    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler := Handler())
    try:
        adapter = LlamaIndexRerank(
            reranker=Reranker(scorer=DescendingScorer()),
            drop_duplicates=True,
            token_budget=17,
            token_counter=count_words,
            cut_last=True,
        )
        kept = await call(adapter, make_nodes(), query_str=QUERY)
    finally:
        dispatcher.event_handlers.remove(handler)
    assert ended == [kept]
    assert [item.node_id for item in kept] == ["0", "1", "3"]


@pytest.mark.parametrize("call", postprocess)
async def test_llama_index_compares_texts_without_metadata(call: Any) -> None:
    nodes = make_nodes()
    for item in nodes:
        item.node.metadata = {"file": f"one long name of a file that {item.node_id} others share"}
    nodes += [NodeWithScore(node=ImageNode(id_=name, image="")) for name in ("picture", "drawing")]
    adapter = LlamaIndexRerank(
        reranker=Reranker(scorer=DescendingScorer()), top_n=None, drop_duplicates=0.3
    )
    kept = await call(adapter, nodes, query_str=QUERY)
    assert [item.node_id for item in kept] == ["0", "1", "3", "picture", "drawing"]


@pytest.mark.parametrize("call", compress)
async def test_tokens_are_counted_with_the_models_tokenizer(call: Any) -> None:
    with Reranker(scorer=DescendingScorer()) as reranker:
        both = sum(map(reranker.token_counter(), TEXTS[:2]))
        adapter = LangChainRerank(reranker=reranker, token_budget=both)
        assert [d.id for d in await call(adapter, make_documents(), QUERY)] == ["0", "1"]
        adapter.token_budget = both - 1
        assert [d.id for d in await call(adapter, make_documents(), QUERY)] == ["0"]
        assert await call(adapter, [], QUERY) == []


LONG = " ".join(f"word{n}" for n in range(60)) + "."


@pytest.mark.parametrize("adapter_class", ADAPTERS)
async def test_the_last_passage_is_cut(adapter_class: Any) -> None:
    reranker = Reranker(
        scorer=DescendingScorer(), long_documents="passages", passage_tokens=40, passage_overlap=5
    )
    adapter = adapter_class(
        reranker=reranker, returns="passage", token_budget=7, token_counter=count_words
    )
    if isinstance(adapter, LangChainRerank):
        [document] = await adapter.acompress_documents([Document(LONG)], QUERY)
        text, metadata = document.page_content, document.metadata
    else:
        node = TextNode(text=LONG, start_char_idx=1000, end_char_idx=1000 + len(LONG))
        [item] = await adapter.apostprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
        text, metadata = item.node.text, item.node.metadata
        assert node.text == LONG
        start = 1000 + metadata["rerank_passage"]["start"]
        assert (item.node.start_char_idx, item.node.end_char_idx) == (start, start + len(text))
        assert item.node.get_content(metadata_mode=MetadataMode.LLM) == text
    passage = metadata["rerank_passage"]
    assert count_words(LONG[passage["start"] : passage["end"]]) > 7
    assert count_words(text) == 7
    assert LONG[passage["start"] :].startswith(text)
    assert metadata["rerank_cut"] is True


@pytest.mark.parametrize("call", compress)
async def test_the_budget_holds_where_scoring_fails(call: Any) -> None:
    scorer = DescendingScorer()
    scorer.broken = True
    adapter = LangChainRerank(
        reranker=Reranker(scorer=scorer, on_error="keep_order"),
        token_budget=len(TEXTS[0]) + len(TEXTS[1]),
        drop_duplicates=True,
        top_n=None,
    )
    with pytest.warns(RerankerWarning, match="kept the order"):
        kept = await call(adapter, make_documents(), QUERY)
    assert [d.id for d in kept] == ["0", "1"]
    assert all("rerank_error" in d.metadata for d in kept)


@pytest.mark.parametrize("adapter_class", ADAPTERS)
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("drop_duplicates", 2),
        ("drop_duplicates", "yes"),
        ("token_budget", 0),
        ("token_budget", "100"),
        ("token_counter", "cl100k_base"),
        ("cut_last", 1),
    ],
)
def test_a_wrong_setting_is_named(adapter_class: Any, name: str, wrong: Any) -> None:
    with pytest.raises(ValidationError, match=f"{name}="):
        adapter_class(**{name: wrong})
    adapter = adapter_class()
    with pytest.raises(ValidationError, match=f"{name}="):
        setattr(adapter, name, wrong)


@pytest.mark.parametrize("adapter_class", ADAPTERS)
def test_copies_keep_the_settings(adapter_class: Any) -> None:
    settings: dict[str, Any] = {
        "drop_duplicates": 0.5,
        "token_budget": 100,
        "token_counter": count_words,
        "cut_last": True,
    }
    adapter = adapter_class(**settings)
    for twin in (copy.copy(adapter), adapter.model_copy(), pickle.loads(pickle.dumps(adapter))):
        assert {name: getattr(twin, name) for name in settings} == settings
    # A function has no place in a dump.
    assert not [text for text in shown(adapter) if "count_words" in text]
    assert "token_counter" not in adapter_class.model_json_schema()["properties"]
    assert adapter_class(drop_duplicates=1).drop_duplicates is not True


@pytest.mark.parametrize("adapter_class", ADAPTERS)
def test_what_most_users_set_comes_first(adapter_class: Any) -> None:
    order = list(adapter_class.model_fields)
    names = ["model", "top_n", "drop_duplicates", "long_documents", "api_key"]
    assert sorted(names, key=order.index) == names
