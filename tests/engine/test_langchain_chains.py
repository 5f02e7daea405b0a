"""The LangChain compressor inside what others built: retrievers, pipelines, LCEL, tools."""

from __future__ import annotations

import asyncio
import inspect
import random
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langchain_text_splitters import CharacterTextSplitter

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank

QUERIES = [
    "How do I shuffle a list in place?",
    "copy a whole directory tree",
    "pick one random element from a sequence",
    "delete a directory and everything in it",
]
FOUND: list[Any] = [
    random.shuffle,
    random.choice,
    random.gauss,
    shutil.copytree,
    shutil.rmtree,
    shutil.which,
]
DOCUMENTS = [
    Document(f"{each.__name__}\n\n{inspect.getdoc(each)}", id=each.__name__) for each in FOUND
]


def base_retriever(**search: Any) -> BaseRetriever:
    """Retrieve everything, in an order that has nothing to do with the query."""
    store = InMemoryVectorStore.from_documents(DOCUMENTS, DeterministicFakeEmbedding(size=8))
    return store.as_retriever(search_kwargs={"k": len(DOCUMENTS), **search})


@pytest.fixture
def retriever(reranker: Reranker) -> ContextualCompressionRetriever:
    return ContextualCompressionRetriever(
        base_compressor=Qwen3Rerank(reranker=reranker, top_n=2), base_retriever=base_retriever()
    )


def ranking(documents: Sequence[Document]) -> list[tuple[str | None, Any]]:
    return [
        (document.id, pytest.approx(document.metadata["relevance_score"], abs=1e-4))
        for document in documents
    ]


def best(reranker: Reranker, query: str) -> list[tuple[str | None, float]]:
    """The two best for the query, by the reranker itself."""
    hits = reranker.rerank(query, [document.page_content for document in DOCUMENTS], top_n=2)
    return [(DOCUMENTS[hit.index].id, hit.score) for hit in hits]


class TestRetriever(RetrieversIntegrationTests):
    """LangChain's own suite."""

    @pytest.fixture(autouse=True)
    def _with_reranker(self, reranker: Reranker) -> None:
        self.reranker = reranker

    @property
    def retriever_constructor(self) -> Callable[..., BaseRetriever]:  # type: ignore[override]
        def construct(k: int = 3) -> BaseRetriever:
            return ContextualCompressionRetriever(
                base_compressor=Qwen3Rerank(reranker=self.reranker, top_n=k),
                base_retriever=base_retriever(),
            )

        return construct

    @property
    def retriever_query_example(self) -> str:
        return QUERIES[0]


async def test_a_retriever_returns_the_best(
    retriever: ContextualCompressionRetriever, reranker: Reranker
) -> None:
    wanted = [best(reranker, query) for query in QUERIES]
    assert len({str(each) for each in wanted}) == len(QUERIES)
    assert [ranking(retriever.invoke(query)) for query in QUERIES] == wanted
    assert [ranking(await retriever.ainvoke(query)) for query in QUERIES] == wanted


async def test_a_pipeline_reranks_what_its_splitter_makes(reranker: Reranker) -> None:
    splitter = CharacterTextSplitter(separator="\n\n", chunk_size=120, chunk_overlap=0)
    first = Qwen3Rerank(reranker=reranker, top_n=4, metadata_key="first")
    second = Qwen3Rerank(
        reranker=reranker, top_n=2, metadata_key="second", instruction="Find the best"
    )
    pipeline = DocumentCompressorPipeline(transformers=[splitter, first, second])
    query = QUERIES[0]
    chunks = splitter.split_documents(DOCUMENTS)
    assert len(chunks) > len(DOCUMENTS)
    scores = reranker.score(query, [chunk.page_content for chunk in chunks])
    four = sorted(scores, reverse=True)[:4]
    for kept in (
        pipeline.compress_documents(DOCUMENTS, query),
        await pipeline.acompress_documents(DOCUMENTS, query),
    ):
        assert len(kept) == 2
        for document in kept:
            assert document.metadata["first"] in [pytest.approx(score, abs=1e-4) for score in four]
            again = reranker.score(query, [document.page_content], instruction="Find the best")
            assert [document.metadata["second"]] == pytest.approx(again, abs=1e-4)


async def test_batches_share_one_engine(
    retriever: ContextualCompressionRetriever, reranker: Reranker
) -> None:
    queries = QUERIES * 16
    in_threads = retriever.batch(queries, {"max_concurrency": 16})
    in_tasks = await retriever.abatch(queries, {"max_concurrency": 16})
    wanted = [best(reranker, query) for query in QUERIES] * 16
    assert [ranking(kept) for kept in in_threads] == wanted
    assert [ranking(kept) for kept in in_tasks] == wanted


def test_event_loops_share_one_engine(
    retriever: ContextualCompressionRetriever, reranker: Reranker
) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda query: asyncio.run(retriever.ainvoke(query)), QUERIES)
        assert [ranking(kept) for kept in runs] == [best(reranker, query) for query in QUERIES]


async def test_lcel_with_a_retriever(
    retriever: ContextualCompressionRetriever, reranker: Reranker
) -> None:
    def join(documents: list[Document]) -> str:
        return ", ".join(str(document.id) for document in documents)

    prompt = ChatPromptTemplate.from_template("{context}: {question}")
    chain = {"context": retriever | join, "question": RunnablePassthrough()} | prompt
    for query in QUERIES:
        (first, _), (second, _) = best(reranker, query)
        for value in (chain.invoke(query), await chain.ainvoke(query)):
            assert value.to_messages()[0].text == f"{first}, {second}: {query}"


async def test_lcel_with_the_compressor_as_a_step(reranker: Reranker) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=2)
    step = RunnableLambda(
        lambda found: adapter.compress_documents(found["documents"], found["query"]),
        afunc=lambda found: adapter.acompress_documents(found["documents"], found["query"]),
    )
    chain = {"documents": base_retriever(), "query": RunnablePassthrough()} | step
    for query in QUERIES:
        assert ranking(chain.invoke(query)) == best(reranker, query)
        assert ranking(await chain.ainvoke(query)) == best(reranker, query)
    events = [
        event["event"]
        async for event in chain.astream_events(QUERIES[0])
        if event["name"] == "Qwen3Rerank"
    ]
    assert (events[0], events[-1]) == ("on_chain_start", "on_chain_end")


async def test_an_agent_gets_it_as_a_tool(
    retriever: ContextualCompressionRetriever, reranker: Reranker
) -> None:
    tool = create_retriever_tool(
        retriever, "python", "Ask Python's docs.", response_format="content_and_artifact"
    )
    call = {"type": "tool_call", "id": "1", "name": "python", "args": {"query": QUERIES[0]}}
    for message in (tool.invoke(call), await tool.ainvoke(call)):
        assert ranking(message.artifact) == best(reranker, QUERIES[0])
        assert message.content.startswith(message.artifact[0].page_content)
