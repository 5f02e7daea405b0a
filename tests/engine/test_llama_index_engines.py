"""The LlamaIndex postprocessor where it is used: query engines, chat, retrievers, workflows."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Sequence

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.workflow import Event, JsonSerializer, StartEvent, StopEvent, Workflow, step

from qwen3_reranker import Reranker, RerankerError
from qwen3_reranker.llama_index import Qwen3Rerank

QUERY = "read the rows of a csv file"
QUERIES = [QUERY, "square root", "write an object as JSON", "create a directory"]
TEXTS = {
    "csv.reader": "Return a reader object that will process lines from the given csvfile.",
    "csv.writer": "Return a writer object that will write rows to a csv file.",
    "json.dumps": "Serialize obj to a JSON formatted str.",
    "math.sqrt": "Return the square root of x.",
    "os.makedirs": "Create a leaf directory and all intermediate ones.",
    "random.shuffle": "Shuffle list x in place, and return None.",
    "threading.Lock": "A lock object that excludes other threads.",
    "zipfile.ZipFile": "Class with methods to open, read, write, close, list zip files.",
}


class HashingEmbedding(BaseEmbedding):
    """A bag of words, each hashed to one of 64 dimensions: near enough to retrieve with."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.01] * 64
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % 64] += 1.0
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    nodes = [
        TextNode(id_=name, text=text, metadata={"title": name}) for name, text in TEXTS.items()
    ]
    return VectorStoreIndex(nodes, embed_model=HashingEmbedding())


def ids(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [item.node_id for item in nodes]


def ranked(reranker: Reranker, query: str, found: Sequence[NodeWithScore], top_n: int) -> list[str]:
    """Return what the reranker alone says of what a retriever found."""
    texts = [item.get_content(MetadataMode.EMBED) for item in found]
    return [found[hit.index].node_id for hit in reranker.rerank(query, texts, top_n=top_n)]


@pytest.mark.parametrize("keep_retrieval_score", [False, True])
def test_a_query_engine_answers_from_the_best_nodes(
    reranker: Reranker, index: VectorStoreIndex, keep_retrieval_score: bool
) -> None:
    adapter = Qwen3Rerank(reranker=reranker, top_n=2, keep_retrieval_score=keep_retrieval_score)
    engine = index.as_query_engine(similarity_top_k=6, node_postprocessors=[adapter], llm=MockLLM())
    found = index.as_retriever(similarity_top_k=6).retrieve(QUERY)
    response = engine.query(QUERY)
    expected = ranked(reranker, QUERY, found, 2)
    assert ids(response.source_nodes) == expected
    assert ids(response.source_nodes) != ids(found)[:2]  # else this test shows nothing
    assert set(expected) == {"csv.reader", "csv.writer"}
    # MockLLM answers with its prompt: it holds the two texts in their order, and no others.
    positions = [str(response).find(TEXTS[name]) for name in expected]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert sum(text in str(response) for text in TEXTS.values()) == 2
    assert "retrieval_score" not in str(response)
    kept = [item.metadata.get("retrieval_score") for item in response.source_nodes]
    came = {item.node_id: item.score for item in found}
    assert kept == ([came[name] for name in expected] if keep_retrieval_score else [None, None])


async def test_a_retriever_query_engine_answers_many_at_once(
    reranker: Reranker, index: VectorStoreIndex
) -> None:
    retriever = index.as_retriever(similarity_top_k=len(TEXTS))
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(), node_postprocessors=[Qwen3Rerank(reranker=reranker)]
    )
    responses = await asyncio.gather(*(engine.aquery(query) for query in QUERIES))
    for query, response in zip(QUERIES, responses, strict=True):
        found = await retriever.aretrieve(query)
        assert ids(response.source_nodes) == ranked(reranker, query, found, 3)
        # The same engine, asked the same in the other way.
        assert ids(engine.query(query).source_nodes) == ids(response.source_nodes)
    assert len({tuple(ids(response.source_nodes)) for response in responses}) > 1


async def test_the_engines_callback_manager_gets_the_events(
    reranker: Reranker, index: VectorStoreIndex
) -> None:
    handlers = [LlamaDebugHandler(print_trace_on_end=False) for _ in range(2)]
    adapter = Qwen3Rerank(reranker=reranker, callback_manager=CallbackManager([handlers[0]]))
    manager = CallbackManager([handlers[1]])
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(),
        llm=MockLLM(),
        node_postprocessors=[adapter],
        callback_manager=manager,
    )
    assert adapter.callback_manager is manager
    await engine.aquery(QUERY)
    engine.query(QUERY)
    assert handlers[0].get_event_pairs(CBEventType.RERANKING) == []
    pairs = handlers[1].get_event_pairs(CBEventType.RERANKING)
    assert [len(pair) for pair in pairs] == [2, 2]
    # A trace that lost its count of open events would not close these.
    assert [len(pair) for pair in handlers[1].get_event_pairs(CBEventType.QUERY)] == [2, 2]


async def test_it_works_in_a_row_of_postprocessors(
    reranker: Reranker, index: VectorStoreIndex
) -> None:
    rows = [
        SimilarityPostprocessor(similarity_cutoff=0.0),
        Qwen3Rerank(reranker=reranker, top_n=5, keep_retrieval_score=True),
        Qwen3Rerank(reranker=reranker, top_n=2),
    ]
    retriever = index.as_retriever(similarity_top_k=len(TEXTS))
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=rows)
    kept = await engine.aretrieve(QueryBundle(QUERY))
    assert ids(kept) == ranked(reranker, QUERY, await retriever.aretrieve(QUERY), 2)


async def test_an_engine_that_finds_nothing_still_answers(reranker: Reranker) -> None:
    empty = VectorStoreIndex([], embed_model=HashingEmbedding())
    engine = empty.as_query_engine(
        llm=MockLLM(), node_postprocessors=[Qwen3Rerank(reranker=reranker)]
    )
    assert engine.query(QUERY).source_nodes == []
    assert (await engine.aquery(QUERY)).source_nodes == []


async def test_a_chat_engine_uses_it(reranker: Reranker, index: VectorStoreIndex) -> None:
    retriever = index.as_retriever(similarity_top_k=len(TEXTS))
    engine = ContextChatEngine.from_defaults(
        retriever, llm=MockLLM(), node_postprocessors=[Qwen3Rerank(reranker=reranker, top_n=2)]
    )
    expected = ranked(reranker, QUERY, await retriever.aretrieve(QUERY), 2)
    assert ids((await engine.achat(QUERY)).source_nodes) == expected
    assert ids(engine.chat(QUERY).source_nodes) == expected


async def test_the_rerankers_error_reaches_the_caller(index: VectorStoreIndex) -> None:
    closed = Reranker("demo")
    closed.close()
    adapter = Qwen3Rerank(reranker=closed)
    engine = index.as_query_engine(llm=MockLLM(), node_postprocessors=[adapter])
    with pytest.raises(RerankerError):
        engine.query(QUERY)
    with pytest.raises(RerankerError):
        await engine.aquery(QUERY)


# Workflows


class Retrieved(Event):
    query: str
    nodes: list[NodeWithScore]


class Rag(Workflow):
    """Retrieve in one step, rerank in the next."""

    def __init__(self, index: VectorStoreIndex, adapter: Qwen3Rerank) -> None:
        super().__init__(timeout=120)
        self.retriever = index.as_retriever(similarity_top_k=len(TEXTS))
        self.adapter = adapter

    @step
    async def retrieve(self, start: StartEvent) -> Retrieved:
        query = start.get("query")
        return Retrieved(query=query, nodes=await self.retriever.aretrieve(query))

    @step
    async def rerank(self, found: Retrieved) -> StopEvent:
        return StopEvent(await self.adapter.apostprocess_nodes(found.nodes, query_str=found.query))


async def test_a_workflow_step_reranks(reranker: Reranker, index: VectorStoreIndex) -> None:
    workflow = Rag(index, Qwen3Rerank(reranker=reranker, top_n=2))
    results = await asyncio.gather(*(workflow.run(query=query) for query in QUERIES))
    for query, kept in zip(QUERIES, results, strict=True):
        found = await workflow.retriever.aretrieve(query)
        assert ids(kept) == ranked(reranker, query, found, 2)
    assert len({tuple(ids(kept)) for kept in results}) > 1


def test_a_workflows_context_can_store_it() -> None:
    serializer = JsonSerializer()
    adapter = Qwen3Rerank(model="demo", top_n=7, engine_args={"hf_token": "hf_secret"})
    text = serializer.serialize(adapter)
    again = serializer.deserialize(text)
    assert isinstance(again, Qwen3Rerank)
    assert again.to_dict() == adapter.to_dict()
    assert "hf_secret" not in text
