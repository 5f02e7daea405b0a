"""Duplicates and token budgets with scores of a real engine, in both frameworks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support import langchain_helpers, llama_index_helpers
from support.helpers import SETTINGS, either
from support.langchain_helpers import Compress, scores_of, texts_of
from support.llama_index_helpers import Rerank, ids

QUERY = langchain_helpers.QUERY


@pytest.mark.parametrize("call", [either("rerank"), either("arerank")])
async def test_reranker(reranker: Reranker, call: Any) -> None:
    texts = texts_of(langchain_helpers.make_documents())
    texts += [text.upper() for text in texts]
    everything = await call(reranker, QUERY, texts)
    unique = await call(reranker, QUERY, texts, drop_duplicates=True)
    assert len(unique) == 5
    # The better one of each pair is kept, in the order of the scores.
    first = {hit.index % 5: hit for hit in reversed(everything)}
    better = [hit for hit in everything if first[hit.index % 5] is hit]
    assert [hit.index for hit in unique] == [hit.index for hit in better]

    count = reranker.token_counter()
    needed = [count(hit.text) for hit in unique]
    budget = sum(needed[:2]) + needed[2] // 2
    kept = await call(reranker, QUERY, texts, drop_duplicates=True, token_budget=budget)
    assert [hit.text for hit in kept] == [hit.text for hit in unique[:2]]
    *whole, cut = await call(
        reranker, QUERY, texts, drop_duplicates=True, token_budget=budget, cut_last=True
    )
    assert [hit.text for hit in whole] == [hit.text for hit in unique[:2]]
    assert cut.cut and unique[2].text.startswith(cut.text)
    # A word has a few tokens, and what is not needed is less than a word.
    assert budget - 10 < sum(count(hit.text) for hit in [*whole, cut]) <= budget


async def test_langchain(reranker: Reranker, documents: list[Document], compress: Compress) -> None:
    twins = [Document(d.page_content.upper(), id=f"twin of {d.id}") for d in documents]
    everything = await compress(LangChainRerank(reranker=reranker, top_n=None), documents, QUERY)
    adapter = LangChainRerank(reranker=reranker, top_n=None, drop_duplicates=True)
    unique = await compress(adapter, documents + twins, QUERY)
    assert sorted(str(d.id).removeprefix("twin of ") for d in unique) == sorted(
        str(d.id) for d in documents
    )
    assert scores_of(unique) == sorted(scores_of(unique), reverse=True)

    count = reranker.token_counter()
    budget = sum(count(d.page_content) for d in everything[:2]) + 5
    adapter = LangChainRerank(reranker=reranker, top_n=None, token_budget=budget)
    assert texts_of(await compress(adapter, documents, QUERY)) == texts_of(everything[:2])
    adapter.cut_last = True
    *whole, last = await compress(adapter, documents, QUERY)
    assert texts_of(whole) == texts_of(everything[:2])
    assert everything[2].page_content.startswith(last.page_content)
    assert 0 < count(last.page_content) <= 5
    assert (last.id, last.metadata["title"]) == (everything[2].id, everything[2].metadata["title"])
    assert last.metadata["rerank_cut"] is True
    # With a counter of the language model's tokens.
    adapter.token_budget, adapter.token_counter = 10, lambda text: len(text.split())
    kept = await compress(adapter, documents, QUERY)
    assert sum(len(text.split()) for text in texts_of(kept)) == 10


async def test_llama_index(reranker: Reranker, nodes: list[NodeWithScore], rerank: Rerank) -> None:
    query = llama_index_helpers.QUERY
    twins = [
        NodeWithScore(node=TextNode(text=item.node.get_content().upper(), id_=f"{item.node_id}2"))
        for item in nodes
    ]
    everything = await rerank(
        LlamaIndexRerank(reranker=reranker, top_n=None), nodes, query_str=query
    )
    adapter = LlamaIndexRerank(reranker=reranker, top_n=None, drop_duplicates=True)
    unique = await rerank(adapter, nodes + twins, query_str=query)
    assert sorted(name.removesuffix("2") for name in ids(unique)) == sorted(ids(nodes))

    def read(item: NodeWithScore) -> str:
        return item.node.get_content(metadata_mode=MetadataMode.LLM)

    count = reranker.token_counter()
    # Each node has metadata, of about 10 tokens, which the language model reads, too.
    budget = sum(count(read(item)) for item in everything[:2]) + 25
    adapter = LlamaIndexRerank(reranker=reranker, top_n=None, token_budget=budget, cut_last=True)
    kept = await rerank(adapter, nodes, query_str=query)
    assert sum(count(read(item)) for item in kept) <= budget
    *whole, last = kept
    assert ids(kept) == ids(everything[: len(kept)])
    assert "rerank_cut" in last.node.metadata
    assert everything[len(whole)].node.get_content().startswith(last.node.get_content())
    adapter.cut_last = False
    assert ids(await rerank(adapter, nodes, query_str=query)) == ids(whole)
    # With a counter of the language model's tokens, which reads the metadata, too.
    adapter.token_budget, adapter.token_counter = 10, lambda text: len(text.split())
    adapter.cut_last = True
    kept = await rerank(adapter, nodes, query_str=query)
    assert sum(len(read(item).split()) for item in kept) == 10


async def test_the_last_passage_is_cut_in_both_frameworks() -> None:
    filler = " ".join(f"This is sentence {n} about nothing at all." for n in range(40))
    long = f"{filler} os.mkdir(path): Create a directory named path. {filler}"
    query, settings = "How do I create a directory?", {**SETTINGS, "long_documents": "passages"}
    settings |= {"passage_tokens": 64, "returns": "passage", "token_budget": 20}
    with LangChainRerank(**settings) as compressor, LlamaIndexRerank(**settings) as postprocessor:
        [document] = await compressor.acompress_documents([Document(long)], query)
        nodes = [NodeWithScore(node=TextNode(text=long))]
        [item] = await postprocessor.apostprocess_nodes(nodes, query_str=query)
    assert document.page_content == item.node.get_content()
    assert document.metadata["rerank_cut"] is item.node.metadata["rerank_cut"] is True
    passage = document.metadata["rerank_passage"]
    assert "Create a directory" in long[passage["start"] : passage["end"]]
    assert long[passage["start"] :].startswith(document.page_content)
