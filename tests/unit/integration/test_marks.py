"""What the adapters say of passages, and the passages that they hand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from llama_index.core.schema import Document as LlamaDocument
from llama_index.core.schema import (
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from pydantic import ValidationError

from qwen3_reranker import Hit, Passage, Prompt, Reranker, Scorer, Scores
from qwen3_reranker.integration.marks import as_returned
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder

from support.helpers import either

DEMO = (DEMO_MODEL / "tokenizer.json").read_text("utf-8")
ANSWER = "Rivers begin below glaciers."
FILLER = "".join(f"Sentence {n} is about something else. " for n in range(60))
LONG = f"  \n{FILLER}{ANSWER} {FILLER}\n"
TITLE = "A title about nothing. " * 20
COMPRESS = [either("compress_documents"), either("acompress_documents")]
POSTPROCESS = [either("postprocess_nodes"), either("apostprocess_nodes")]


class Finding(Scorer):
    """Finds the passages that contain the answer whole."""

    model = "finding"

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        return Scores([0.9 if ANSWER in text else 0.1 for text in texts], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError

    async def prompt_builder(self) -> PromptBuilder:
        return PromptBuilder(DEMO)


def reranker() -> Reranker:
    return Reranker(scorer=Finding(), long_documents="passages", passage_tokens=64)


def shown(text: str, mark: dict[str, Any]) -> str:
    assert mark.keys() == {"start", "end", "score", "count"}
    return text[mark["start"] : mark["end"]]


@pytest.mark.parametrize("call", COMPRESS)
@pytest.mark.parametrize("template", [None, "{title}\n{page_content}", "{page_content} ({title})"])
async def test_langchain_says_where_the_passage_is(call: Any, template: str | None) -> None:
    adapter = LangChainRerank(reranker=reranker(), document_template=template, top_n=None)
    given_ = Document(LONG, id="1", metadata={"title": TITLE, "rerank_passage": "stale"})
    long, short = await call(adapter, [Document("short"), given_], QUERY)
    assert ANSWER in shown(LONG, long.metadata["rerank_passage"])
    assert (long.page_content, long.id, long.metadata["title"]) == (LONG, "1", TITLE)
    assert long.metadata["rerank_passage"]["score"] == long.metadata["relevance_score"] == 0.9
    assert long.metadata["rerank_passage"]["count"] > 10
    assert short.metadata["rerank_passage"] == {"start": 0, "end": 5, "score": 0.1, "count": 1}
    assert given_.metadata == {"title": TITLE, "rerank_passage": "stale"}


QUERY = "Where do rivers begin?"


@pytest.mark.parametrize("call", COMPRESS)
async def test_langchain_returns_the_passage(call: Any) -> None:
    adapter = LangChainRerank(reranker=reranker(), returns="passage", top_n=1)
    (passage,) = await call(adapter, [Document(LONG, id="1", metadata={"a": 1})], QUERY)
    assert passage.page_content == shown(LONG, passage.metadata["rerank_passage"])
    assert ANSWER in passage.page_content
    assert len(passage.page_content) < 400
    assert (passage.id, passage.metadata["a"]) == ("1", 1)
    step = adapter.as_runnable()
    assert step.invoke(
        {"query": QUERY, "documents": [Document(LONG, id="1", metadata={"a": 1})]}
    ) == [passage]


@pytest.mark.parametrize("call", COMPRESS)
async def test_langchain_removes_the_mark_of_an_earlier_call(call: Any) -> None:
    adapter = LangChainRerank(reranker=Reranker(scorer=Finding()))
    stale = Document("a", metadata={"rerank_passage": {"start": 0}})
    (document,) = await call(adapter, [stale], QUERY)
    assert document.metadata.keys() == {"relevance_score"}


@pytest.mark.parametrize("call", POSTPROCESS)
@pytest.mark.parametrize("mode", [MetadataMode.NONE, MetadataMode.EMBED])
@pytest.mark.parametrize("kind", [TextNode, LlamaDocument])
async def test_llama_index_says_where_the_passage_is(
    call: Any, mode: MetadataMode, kind: type[TextNode | LlamaDocument]
) -> None:
    adapter = LlamaIndexRerank(reranker=reranker(), metadata_mode=mode, top_n=None)
    node = kind(text=LONG, id_="1", metadata={"title": TITLE, "rerank_passage": "stale"})
    node.excluded_embed_metadata_keys = ["rerank_passage"]
    before = node.model_copy(deep=True)
    (kept,) = await call(adapter, [NodeWithScore(node=node, score=0.5)], query_str=QUERY)
    mark = kept.node.metadata["rerank_passage"]
    assert ANSWER in shown(kept.node.get_content(MetadataMode.NONE), mark)
    assert kept.score == mark["score"] == 0.9
    assert node == before
    for hidden in (MetadataMode.EMBED, MetadataMode.LLM):
        assert "rerank_passage" not in kept.node.get_content(hidden)


@pytest.mark.parametrize("call", POSTPROCESS)
@pytest.mark.parametrize("kind", [TextNode, LlamaDocument])
async def test_llama_index_returns_the_passage(
    call: Any, kind: type[TextNode | LlamaDocument]
) -> None:
    adapter = LlamaIndexRerank(reranker=reranker(), returns="passage")
    source = RelatedNodeInfo(node_id="source")
    node = kind(text=LONG, id_="1", metadata={"title": "t"})
    node.relationships = {NodeRelationship.SOURCE: source}
    if isinstance(node, TextNode):
        node.start_char_idx, node.end_char_idx = 1000, 1000 + len(LONG)
    before = node.model_copy(deep=True)
    (kept,) = await call(adapter, [NodeWithScore(node=node)], query_str=QUERY)
    mark = kept.node.metadata["rerank_passage"]
    assert kept.node.get_content(MetadataMode.NONE) == shown(LONG, mark)
    assert ANSWER in kept.node.get_content(MetadataMode.LLM)
    assert "title: t" in kept.node.get_content(MetadataMode.LLM)
    assert (kept.node.node_id, kept.node.relationships) == ("1", node.relationships)
    if isinstance(kept.node, TextNode) and kind is TextNode:
        place = (kept.node.start_char_idx, kept.node.end_char_idx)
        assert place == (1000 + mark["start"], 1000 + mark["end"])
    assert node == before


@pytest.mark.parametrize("call", POSTPROCESS)
async def test_llama_index_removes_the_mark_of_an_earlier_call(call: Any) -> None:
    adapter = LlamaIndexRerank(reranker=Reranker(scorer=Finding()))
    node = TextNode(text="a", metadata={"rerank_passage": {"start": 0}})
    node.excluded_llm_metadata_keys = ["rerank_passage"]
    (kept,) = await call(adapter, [NodeWithScore(node=node)], query_str=QUERY)
    assert kept.node.metadata == {}
    assert kept.node.excluded_llm_metadata_keys == []


@pytest.mark.parametrize("adapter", [LangChainRerank, LlamaIndexRerank])
def test_passages_are_returned_only_where_there_are_some(adapter: Any) -> None:
    for settings in ({"model": "demo"}, {"reranker": Reranker(scorer=Finding())}):
        with pytest.raises(ValidationError, match="give long_documents='passages' too"):
            adapter(returns="passage", **settings)
    with pytest.raises(ValidationError, match="returns"):
        adapter(returns="chunk")
    copied = adapter(model="demo", long_documents="passages", passage_tokens=99, returns="passage")
    assert copied.model_copy().returns == "passage"
    assert copied.model_copy()._reranker.long_documents == "passages"


BLANKS = st.text(" \n", max_size=3)


@given(
    content=st.tuples(BLANKS, st.text("ab", min_size=1), BLANKS).map("".join),
    before=st.text("ab \n", max_size=8),
    after=st.text("c \n", max_size=8),
    data=st.data(),
)
def test_a_passage_is_mapped_to_the_content(
    content: str, before: str, after: str, data: st.DataObject
) -> None:
    text = before + content.strip() + after
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    hit = Hit(0, 0.5, text, passage=Passage(start, end, 0.5, 3))
    returned = as_returned(hit, content, "passage")
    assert returned.passage is not None
    span = slice(returned.passage.start, returned.passage.end)
    assert 0 <= span.start <= span.stop <= len(content)
    inside = text[max(start, len(before)) : min(end, len(before) + len(content.strip()))]
    assert content[span].strip() == inside.strip()
    assert returned.text == (content[span] or content)
    assert as_returned(hit, content, "document").text == content


def test_a_content_that_the_text_lacks_is_covered_whole() -> None:
    hit = Hit(0, 0.5, "only a title", logit=0.0, passage=Passage(3, 6, 0.5, 2))
    assert as_returned(hit, "content", "passage") == replace(
        hit, text="content", passage=Passage(0, 7, 0.5, 2)
    )
