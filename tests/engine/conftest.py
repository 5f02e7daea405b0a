"""The fixtures that the tests of the adapters share."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore

from support.helpers import either
from support.langchain_helpers import Compress, make_documents
from support.llama_index_helpers import Rerank, make_nodes


@pytest.fixture(params=["compress_documents", "acompress_documents"])
def compress(request: pytest.FixtureRequest) -> Compress:
    """Call the sync or the async method; what holds for one holds for the other."""
    return either(request.param)


@pytest.fixture
def documents() -> list[Document]:
    """Five documents from Python's documentation."""
    return make_documents()


@pytest.fixture(params=["postprocess_nodes", "apostprocess_nodes"])
def rerank(request: pytest.FixtureRequest) -> Rerank:
    """Call the sync or the async method; what holds for one holds for the other."""
    return either(request.param)


@pytest.fixture
def nodes() -> list[NodeWithScore]:
    """Five nodes from Python's documentation."""
    return make_nodes()
