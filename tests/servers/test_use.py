"""Real servers as users meet them: the examples, and many calls at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from qwen3_reranker import Reranker
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

from support.real_pairs import EXAMPLES, real_pairs
from support.servers.litellm_servers import MODEL
from support.servers.processes import Server

PAIRS = real_pairs(20)
CALLS = 200


@pytest.mark.parametrize("name", ["remote_langchain.py", "remote_llama_index.py"])
def test_examples(vllm_original: Server, name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), vllm_original.url],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, *kept = done.stdout.splitlines()
    assert "dialect vllm-classify at /classify, token ids" in found
    scores = [float(line.split()[0]) for line in kept]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)


@pytest.fixture(scope="session")
def expected(reranker: Reranker) -> list[list[int]]:
    """The order of each question's first three documents, by the embedded engine."""
    return [[hit.index for hit in reranker.rerank(q, found[:3])] for q, found in PAIRS]


async def test_200_calls_at_the_same_time_in_one_loop(
    vllm_original: Server, expected: list[list[int]]
) -> None:
    async with LangChainRerank(base_url=vllm_original.url, max_concurrency=16) as compressor:
        calls = [
            compressor.acompress_documents(
                [Document(text, metadata={"place": i}) for i, text in enumerate(found[:3])], query
            )
            for query, found in (PAIRS * (CALLS // len(PAIRS)))
        ]
        answers = await asyncio.gather(*calls)
    assert [[d.metadata["place"] for d in kept] for kept in answers] == expected * 10


def test_200_threads(vllm_original: Server, expected: list[list[int]]) -> None:
    with LlamaIndexRerank(base_url=vllm_original.url, max_concurrency=16) as postprocessor:

        def call(pair: tuple[str, list[str]]) -> list[str]:
            nodes = [
                NodeWithScore(node=TextNode(text=text, id_=str(i)))
                for i, text in enumerate(pair[1][:3])
            ]
            kept = postprocessor.postprocess_nodes(nodes, QueryBundle(pair[0]))
            return [node.node_id for node in kept]

        with ThreadPoolExecutor(CALLS) as pool:
            answers = list(pool.map(call, PAIRS * (CALLS // len(PAIRS))))
    assert answers == [[str(place) for place in places] for places in expected] * 10


def test_two_servers_share_the_work(
    vllm_original: Server, vllm_one_label: Server, reranker: Reranker
) -> None:
    # A third one that is down is passed over.
    urls = ["http://127.0.0.1:9", vllm_original.url, vllm_one_label.url]
    with Reranker(base_url=urls, timeout=60) as remote:
        hits = remote.rerank_many(PAIRS)
        right = reranker.rerank_many(PAIRS)
        for mine, its in zip(hits, right, strict=True):
            assert {h.index: h.score for h in mine} == pytest.approx(
                {h.index: h.score for h in its}, abs=2e-3
            )
        assert remote.describe().count("dialect vllm-classify") == 2


def test_through_a_litellm_proxy(litellm: Server, reranker: Reranker) -> None:
    query, documents = PAIRS[0]
    with Reranker(MODEL, base_url=litellm.url, api_key=litellm.key) as remote:
        assert "LiteLLM" in remote.describe()
        assert remote.score(query, documents) == pytest.approx(
            reranker.score(query, documents), abs=2e-3
        )
