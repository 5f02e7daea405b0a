"""What both adapters write into metadata about truncated texts, former scores and former ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from pydantic import ValidationError

from qwen3_reranker import Prompt, Reranker, Scorer, Scores
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import either

SHORT, MIDDLE, LONG = "one", "one two", "one two three four"


class WordScorer(Scorer):
    """Prefers long texts, and truncates those of more than `words` words."""

    model = "words"

    def __init__(self, words: int = 3) -> None:
        self.words = words

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        counts = [len(text.split()) for text in texts]
        return Scores([count / 10 for count in counts], [count > self.words for count in counts])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


COMPRESS: list[Callable[..., Any]] = [either("compress_documents"), either("acompress_documents")]
POSTPROCESS: list[Callable[..., Any]] = [either("postprocess_nodes"), either("apostprocess_nodes")]


def langchain(words: int = 3, **settings: Any) -> LangChainRerank:
    return LangChainRerank(reranker=Reranker(scorer=WordScorer(words)), **settings)


def llama_index(words: int = 3, **settings: Any) -> LlamaIndexRerank:
    return LlamaIndexRerank(reranker=Reranker(scorer=WordScorer(words)), **settings)


# LangChain


@pytest.mark.parametrize("call", COMPRESS)
async def test_langchain_marks_truncated_documents_only(call: Callable[..., Any]) -> None:
    documents = [Document(text) for text in (SHORT, LONG, " ")]
    kept = await call(langchain(), documents, "query")
    assert [document.metadata for document in kept] == [
        {"relevance_score": 0.4, "rerank_truncated": True},
        {"relevance_score": 0.1},
        {"relevance_score": 0.0},
    ]
    again = await call(langchain(words=4), kept, "query")
    assert not [document for document in again if "rerank_truncated" in document.metadata]


async def test_langchain_marks_a_document_whose_template_is_truncated() -> None:
    document = Document("one", metadata={"title": "two three four"})
    adapter = langchain(document_template="{title} {page_content}")
    [kept] = adapter.compress_documents([document], "query")
    assert kept.metadata["rerank_truncated"] is True
    assert kept.page_content == "one"


@pytest.mark.parametrize("call", COMPRESS)
async def test_langchain_keeps_ranks_on_request(call: Callable[..., Any]) -> None:
    documents = [Document(text, metadata={"id": text}) for text in (SHORT, LONG, MIDDLE)]
    adapter = langchain()
    for document in await call(adapter, documents, "query"):
        assert "retrieval_rank" not in document.metadata
    adapter.keep_retrieval_rank = True
    kept = await call(adapter, documents, "query")
    assert [d.metadata["retrieval_rank"] for d in kept] == [2, 3, 1]
    assert [documents[d.metadata["retrieval_rank"] - 1].page_content for d in kept] == [
        d.page_content for d in kept
    ]
    assert [set(document.metadata) for document in documents] == [{"id"}] * 3


@pytest.mark.parametrize("key", ["retrieval_score", "retrieval_rank", "rerank_cut", "rerank_error"])
def test_the_key_of_something_else_is_refused_for_the_score(key: str) -> None:
    with pytest.raises(ValidationError, match=rf"metadata\['{key}'\] has another meaning"):
        langchain(metadata_key=key)
    adapter = langchain()
    with pytest.raises(ValidationError, match="another meaning"):
        adapter.metadata_key = key
    assert adapter.metadata_key == "relevance_score"


@pytest.mark.parametrize("call", COMPRESS)
@pytest.mark.parametrize("key", ["relevance_score", "score"])
async def test_langchain_keeps_the_retrievers_score(call: Callable[..., Any], key: str) -> None:
    documents = [Document(SHORT, metadata={key: 0.75}), Document(LONG), Document(MIDDLE)]
    documents[2].metadata[key] = None
    kept = await call(langchain(metadata_key=key, words=9), documents, "query")
    assert [document.metadata for document in kept] == [
        {key: 0.4},
        {key: 0.2},
        {"retrieval_score": 0.75, key: 0.1},
    ]
    assert documents[0].metadata == {key: 0.75}


@pytest.mark.parametrize("call", COMPRESS)
async def test_a_second_reranker_keeps_the_retrievers_score_and_rank(
    call: Callable[..., Any],
) -> None:
    documents = [Document(text, metadata={"relevance_score": 0.75}) for text in (SHORT, MIDDLE)]
    first, second = langchain(keep_retrieval_rank=True), langchain()
    kept = await call(second, await call(first, documents, "query"), "query")
    assert [document.metadata for document in kept] == [
        {"retrieval_score": 0.75, "retrieval_rank": 2, "relevance_score": 0.2},
        {"retrieval_score": 0.75, "retrieval_rank": 1, "relevance_score": 0.1},
    ]


def test_both_adapters_have_the_statistics_of_their_reranker() -> None:
    with langchain() as compressor:
        compressor.compress_documents([Document(SHORT)], "query")
        assert compressor.stats().queries == 1
    with llama_index() as postprocessor:
        assert postprocessor.stats().queries == 0
        postprocessor.postprocess_nodes(nodes(), query_str="query")
        assert postprocessor.stats().documents == 3


# LlamaIndex


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in (SHORT, LONG, " ")]


@pytest.mark.parametrize("call", POSTPROCESS)
async def test_llama_index_marks_truncated_nodes_only(call: Callable[..., Any]) -> None:
    given = nodes()
    before = [node.model_dump() for node in given]
    kept = await call(llama_index(), given, query_str="query")
    assert [node.metadata for node in kept] == [{"rerank_truncated": True}, {}, {}]
    assert [node.model_dump() for node in given] == before
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert kept[0].node.get_content(metadata_mode=mode) == LONG
    # Nodes without a mark are shared, not copied.
    assert kept[1].node is given[0].node
    again = await call(llama_index(words=4), kept, query_str="query")
    assert [node.metadata for node in again] == [{}, {}, {}]
    assert again[0].node.excluded_llm_metadata_keys == []


@pytest.mark.parametrize("call", POSTPROCESS)
async def test_llama_index_marks_and_keeps_scores_together(call: Callable[..., Any]) -> None:
    kept = await call(llama_index(keep_retrieval_score=True), nodes(), query_str="query")
    assert [node.metadata for node in kept] == [
        {"rerank_truncated": True, "retrieval_score": 0.5},
        {"retrieval_score": 0.5},
        {"retrieval_score": 0.5},
    ]
