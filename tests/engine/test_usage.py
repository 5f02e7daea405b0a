"""What calls cost on a real engine: tokens, seconds and truncation, here and in both adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_reranker import Reranker, Usage
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.helpers import EAGER, SETTINGS, either
from support.log_records import recorded

QUERY = "How do I create a directory?"
TEXTS = ["os.mkdir: Create a directory.", "time.sleep: Wait.", "time.sleep: Wait.", " "]
LONG = "math.sqrt: Return the square root. " * 50
CALLS: list[Callable[..., Any]] = [either("rerank"), either("arerank")]


@pytest.mark.parametrize("call", CALLS)
async def test_tokens_are_those_of_the_prompts(
    reranker: Reranker, call: Callable[..., Any]
) -> None:
    reranker.warm_up()
    before = reranker.stats()
    usage = (await call(reranker, QUERY, TEXTS)).usage
    tokens = sum(len(reranker.prompt(QUERY, text).ids) for text in {*TEXTS} - {" "})
    assert (usage.documents, usage.scored, usage.tokens) == (4, 2, tokens)
    assert (usage.truncated, usage.failures, usage.uncounted, usage.endpoints) == (0, 0, 0, {})
    assert usage.tokenizing_seconds > 0
    assert usage.scoring_seconds > 0
    # One part, whose seconds follow each other.
    assert usage.tokenizing_seconds + usage.waiting_seconds + usage.scoring_seconds < usage.seconds
    after = reranker.stats()
    assert (after.queries, after.tokens) == (before.queries + 1, before.tokens + tokens)


def test_the_reference_counts_the_same_tokens(reranker: Reranker) -> None:
    with Reranker(scorer=TransformersScorer("demo", dtype="float32")) as reference:
        usage = reference.rerank(QUERY, TEXTS).usage
    assert (usage.scored, usage.tokens) == (2, reranker.rerank(QUERY, TEXTS).usage.tokens)


async def test_parts_that_run_at_the_same_time_add_up(reranker: Reranker) -> None:
    texts = [f"{TEXTS[0]} Number {n}." for n in range(600)]
    usage = (await reranker.arerank(QUERY, texts)).usage
    tokens = sum(len(reranker.prompt(QUERY, text).ids) for text in texts)
    assert (usage.scored, usage.tokens) == (600, tokens)


def test_rerankers_that_share_an_engine_have_their_own_stats(reranker: Reranker) -> None:
    before = reranker.stats()
    with Reranker(**SETTINGS) as other:
        other.rerank(QUERY, TEXTS)
        assert other.stats().queries == 1
    assert reranker.stats() == before


async def test_rankings_of_many_queries_have_their_own_usage(reranker: Reranker) -> None:
    before = reranker.stats()
    pairs = [(QUERY, TEXTS[:1]), (QUERY, TEXTS)]
    rankings = await reranker.arerank_many(pairs)
    assert [ranking.usage.documents for ranking in rankings] == [1, 4]
    total = sum((ranking.usage for ranking in rankings), Usage())
    assert reranker.stats().tokens - before.tokens == total.tokens


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_truncation_shows_in_every_result(asynchronous: bool) -> None:
    with Reranker("demo", max_length=128, engine_args=EAGER) as short, recorded() as log:
        ranking = await short.arerank(QUERY, [TEXTS[0], LONG])
        assert {hit.text: hit.truncated for hit in ranking} == {TEXTS[0]: False, LONG: True}
        assert ranking.usage.truncated == short.stats().truncated == 1
        # Its tokens are those that were scored, not those of the text.
        assert ranking.usage.tokens <= 2 * 128
        assert ranking.usage.waiting_seconds > 0.1  # for the engine's start
        assert len([message for message in log.loud if message.startswith("started vLLM")]) == 1

        documents = [Document(TEXTS[0]), Document(LONG)]
        compressor = LangChainRerank(reranker=short, keep_retrieval_rank=True)
        if asynchronous:
            found = await compressor.acompress_documents(documents, QUERY)
        else:
            found = await asyncio.to_thread(compressor.compress_documents, documents, QUERY)
        marks = {document.page_content: document.metadata for document in found}
        assert "rerank_truncated" not in marks[TEXTS[0]]
        assert marks[LONG]["rerank_truncated"] is True
        assert (marks[TEXTS[0]]["retrieval_rank"], marks[LONG]["retrieval_rank"]) == (1, 2)

        nodes = [NodeWithScore(node=TextNode(text=text)) for text in (TEXTS[0], LONG)]
        postprocessor = LlamaIndexRerank(reranker=short)
        if asynchronous:
            kept = await postprocessor.apostprocess_nodes(nodes, query_str=QUERY)
        else:
            kept = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
        assert {node.text: node.metadata for node in kept} == {
            TEXTS[0]: {},
            LONG: {"rerank_truncated": True},
        }
        assert short.stats().queries == 3
