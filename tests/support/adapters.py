"""Both adapters behind one interface, for tests of what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_reranker.integration.adapter import Adapter
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support import langchain_helpers, llama_index_helpers

__all__ = ["ADAPTERS", "arerank", "rerank", "rerank_texts", "shown"]

ADAPTERS: tuple[Any, ...] = (LangChainRerank, LlamaIndexRerank)


def rerank(adapter: Adapter) -> Sequence[Any]:
    """Rerank five sample documents, or nodes, with the sync method."""
    if isinstance(adapter, LangChainRerank):
        documents = langchain_helpers.make_documents()
        return adapter.compress_documents(documents, langchain_helpers.QUERY)
    assert isinstance(adapter, LlamaIndexRerank)
    nodes = llama_index_helpers.make_nodes()
    return adapter.postprocess_nodes(nodes, query_str=llama_index_helpers.QUERY)


async def arerank(adapter: Adapter) -> Sequence[Any]:
    """Rerank five sample documents, or nodes, with the async method."""
    if isinstance(adapter, LangChainRerank):
        documents = langchain_helpers.make_documents()
        return await adapter.acompress_documents(documents, langchain_helpers.QUERY)
    assert isinstance(adapter, LlamaIndexRerank)
    nodes = llama_index_helpers.make_nodes()
    return await adapter.apostprocess_nodes(nodes, query_str=llama_index_helpers.QUERY)


def rerank_texts(adapter: Adapter, query: str, texts: Sequence[str]) -> list[str]:
    """Rerank texts, as documents or nodes, with the sync method; return them, best first."""
    if isinstance(adapter, LangChainRerank):
        documents = [Document(text) for text in texts]
        return [kept.page_content for kept in adapter.compress_documents(documents, query)]
    assert isinstance(adapter, LlamaIndexRerank)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    return [kept.text for kept in adapter.postprocess_nodes(nodes, query_str=query)]


def shown(adapter: Adapter) -> list[str]:
    """Return every text in which an adapter shows its settings."""
    texts = [repr(adapter), str(adapter), adapter.model_dump_json(), repr(adapter.model_dump())]
    if isinstance(adapter, LlamaIndexRerank):
        return [*texts, adapter.to_json(), repr(adapter.to_dict())]
    return [*texts, repr(dumpd(adapter)), dumps(adapter)]
