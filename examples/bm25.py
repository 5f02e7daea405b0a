"""BM25 (bm25s) over the standard library's documents, as LangChain's and LlamaIndex's retriever."""

from __future__ import annotations

import logging

import bm25s
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever as LangChainRetriever
from llama_index.core.base.base_retriever import BaseRetriever as LlamaIndexRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import ConfigDict

import stdlib_docs

logging.getLogger("bm25s").setLevel(logging.WARNING)


class Bm25:
    """The index: `search` gives the best documents with their BM25 scores."""

    def __init__(self, docs: list[stdlib_docs.Doc]) -> None:
        self.docs = docs
        self._index = bm25s.BM25()
        tokens = bm25s.tokenize([doc.text for doc in docs], stopwords="en", show_progress=False)
        self._index.index(tokens, show_progress=False)

    def search(self, question: str, k: int) -> list[tuple[stdlib_docs.Doc, float]]:
        """Return at most `k` documents, best first; those that share no word are left out."""
        tokens = bm25s.tokenize(question, stopwords="en", show_progress=False)
        found, scores = self._index.retrieve(tokens, k=k, show_progress=False)
        return [
            (self.docs[i], float(score))
            for i, score in zip(found[0], scores[0], strict=True)
            if score > 0
        ]


class LangChainBm25(LangChainRetriever):
    """`Bm25` as LangChain sees it."""

    index: Bm25
    k: int = 20
    model_config = ConfigDict(arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        return [
            Document(doc.text, id=doc.name, metadata={"name": doc.name, "bm25": score})
            for doc, score in self.index.search(query, self.k)
        ]


class LlamaIndexBm25(LlamaIndexRetriever):
    """`Bm25` as LlamaIndex sees it."""

    def __init__(self, index: Bm25, k: int = 20) -> None:
        super().__init__()
        self._index, self._k = index, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=TextNode(text=doc.text, id_=doc.name), score=score)
            for doc, score in self._index.search(query_bundle.query_str, self._k)
        ]
