"""`Qwen3Rerank.as_runnable()`: a step of an LCEL chain, sync, async and in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnablePassthrough
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from qwen3_reranker import InputError, Prompt, Reranker, Scorer, Scores
from qwen3_reranker.langchain import Qwen3Rerank

from support.helpers import FaultyScorer, either

QUERY = "Which is the longest?"
DOCUMENTS = [
    Document("a", id="1", metadata={"source": "x"}),
    Document("aaa", id="2"),
    Document("aa", id="3"),
]


class LengthScorer(Scorer):
    """Scores a text by its length, and remembers the queries."""

    model = "length"

    def __init__(self) -> None:
        self.queries: list[str] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.queries.append(query)
        return Scores([len(text) / 10 for text in texts], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


def retrieve(_: Any) -> list[Document]:
    return DOCUMENTS


@pytest.fixture
def scorer() -> LengthScorer:
    return LengthScorer()


@pytest.fixture
def adapter(scorer: LengthScorer) -> Qwen3Rerank:
    return Qwen3Rerank(reranker=Reranker(scorer=scorer), top_n=2)


@pytest.fixture
def chain(adapter: Qwen3Rerank) -> Runnable[str, list[Document]]:
    return {"query": RunnablePassthrough(), "documents": retrieve} | adapter.as_runnable()


@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
async def test_a_chain_returns_what_the_compressor_returns(
    chain: Runnable[str, list[Document]], adapter: Qwen3Rerank, method: str
) -> None:
    kept = await either(method)(chain, QUERY)
    assert [document.id for document in kept] == ["2", "3"]
    assert kept == adapter.compress_documents(DOCUMENTS, QUERY)
    assert DOCUMENTS[1].metadata == {}


@pytest.mark.parametrize("method", ["batch", "abatch"])
async def test_a_batch_keeps_the_order_of_queries(
    chain: Runnable[str, list[Document]], scorer: LengthScorer, method: str
) -> None:
    queries = [f"question {number}" for number in range(20)]
    answers = await either(method)(chain, queries)
    assert [[document.id for document in kept] for kept in answers] == [["2", "3"]] * 20
    assert sorted(scorer.queries) == sorted(queries)


@pytest.mark.parametrize("method", ["stream", "astream"])
async def test_a_stream_yields_the_documents_at_once(
    chain: Runnable[str, list[Document]], method: str
) -> None:
    stream = getattr(chain, method)(QUERY)
    chunks = [chunk async for chunk in stream] if method == "astream" else list(stream)
    assert [[document.id for document in chunk] for chunk in chunks] == [["2", "3"]]


def test_settings_are_read_at_each_call(
    chain: Runnable[str, list[Document]], adapter: Qwen3Rerank
) -> None:
    adapter.top_n = 1
    assert [document.id for document in chain.invoke(QUERY)] == ["2"]


def test_further_keys_are_ignored(adapter: Qwen3Rerank) -> None:
    chain = RunnablePassthrough.assign(documents=retrieve) | adapter.as_runnable()
    assert [d.id for d in chain.invoke({"query": QUERY, "history": []})] == ["2", "3"]


def test_the_schemas_name_the_keys_and_the_documents(adapter: Qwen3Rerank) -> None:
    runnable = adapter.as_runnable()
    given = runnable.get_input_jsonschema()["$defs"]["RerankInput"]
    assert given["required"] == ["query", "documents"]
    assert given["properties"]["query"]["type"] == "string"
    assert given["properties"]["documents"]["items"] == {"$ref": "#/$defs/Document"}
    returned = runnable.get_output_jsonschema()
    assert (returned["type"], returned["items"]) == ("array", {"$ref": "#/$defs/Document"})


def test_the_chains_picture_names_the_step(chain: Runnable[str, list[Document]]) -> None:
    assert "Qwen3Rerank(Qwen3Rerank)" in chain.get_graph().draw_mermaid()


@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
async def test_the_step_is_one_run_with_the_documents(
    chain: Runnable[str, list[Document]], method: str
) -> None:
    collector = RunCollectorCallbackHandler()
    kept = await either(method)(
        chain, QUERY, {"callbacks": [collector], "tags": ["mine"], "metadata": {"user": "7"}}
    )
    (root,) = collector.traced_runs
    _, step = root.child_runs
    assert (step.name, step.child_runs, step.parent_run_id) == ("Qwen3Rerank", [], root.id)
    assert step.inputs == {"query": QUERY, "documents": DOCUMENTS}
    assert step.outputs == {"output": kept}
    assert "mine" in (step.tags or [])
    assert step.metadata["user"] == "7"


@pytest.mark.parametrize("method", ["invoke", "ainvoke"])
async def test_an_error_is_raised_and_traced(method: str) -> None:
    adapter = Qwen3Rerank(reranker=Reranker(scorer=FaultyScorer(RuntimeError("out of memory"))))
    collector = RunCollectorCallbackHandler()
    call = either(method)
    with pytest.raises(RuntimeError, match="out of memory"):
        await call(
            adapter.as_runnable(),
            {"query": QUERY, "documents": DOCUMENTS},
            {"callbacks": [collector]},
        )
    (run,) = collector.traced_runs
    assert "out of memory" in (run.error or "")


async def test_canceling_the_chain_cancels_the_work() -> None:
    scorer = FaultyScorer()
    step = Qwen3Rerank(reranker=Reranker(scorer=scorer)).as_runnable()
    task = asyncio.create_task(step.ainvoke({"query": QUERY, "documents": DOCUMENTS}))
    assert await asyncio.to_thread(scorer.waiting.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(scorer.cancelled.wait, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (QUERY, r"a str was given to as_runnable\(\), which takes a dictionary: \{\"query\": "),
        ({"question": QUERY, "documents": []}, r"lacks 'query'; it has the keys \['question', "),
        ({"query": QUERY, "context": DOCUMENTS}, "lacks 'documents'; it has the keys "),
        ({"query": QUERY, "documents": ["text"]}, r"documents\[0\] is a str, .* Document\(text\)"),
        ({"query": QUERY, "documents": None}, "documents must be a list, not one NoneType"),
        ({"query": {"query": QUERY}, "documents": DOCUMENTS}, "query"),
    ],
)
def test_another_input_is_an_error_that_names_it(
    adapter: Qwen3Rerank, given: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        adapter.as_runnable().invoke(given)


def test_no_documents_start_nothing(adapter: Qwen3Rerank, scorer: LengthScorer) -> None:
    assert adapter.as_runnable().invoke({"query": QUERY, "documents": []}) == []
    assert scorer.queries == []
