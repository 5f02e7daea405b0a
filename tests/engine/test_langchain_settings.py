"""The settings that only the LangChain compressor has, and what a retriever shows of it."""

from __future__ import annotations

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.load import dumpd, dumps
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from qwen3_reranker import DEFAULT_MODEL, Reranker
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import SECRET
from support.langchain_helpers import QUERY, scores_of


def test_an_empty_metadata_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="metadata_key"):
        Qwen3Rerank(metadata_key="")


def test_a_copy_has_the_compressors_own_settings(
    reranker: Reranker, documents: list[Document]
) -> None:
    original = Qwen3Rerank(reranker=reranker, document_template="{title}")
    original.metadata_key = "p_yes"
    twin = original.model_copy()
    assert (twin.document_template, twin.metadata_key) == ("{title}", "p_yes")
    assert len(scores_of(twin.compress_documents(documents, QUERY), "p_yes")) == 3


def test_a_retriever_does_not_show_the_compressors_secrets() -> None:
    adapter = Qwen3Rerank(engine_args={"hf_token": SECRET})
    base = InMemoryVectorStore(DeterministicFakeEmbedding(size=4)).as_retriever()
    retriever = ContextualCompressionRetriever(base_compressor=adapter, base_retriever=base)
    shown = [repr(retriever), str(retriever), repr(dumpd(retriever)), dumps(retriever)]
    assert DEFAULT_MODEL in shown[2]
    assert not [text for text in shown if SECRET in text]
