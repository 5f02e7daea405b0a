"""Who is compared in `bench_remote`: each loader returns requests at 1, 16 and 64 at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import httpx

from qwen3_reranker.checkpoint import DEMO_MODEL
from qwen3_reranker.prompt import PromptBuilder

from benchmarks.work import Work
from benchmarks.workers import Modes

CONCURRENCIES = (1, 16, 64)
T = TypeVar("T")


def bare(url: str) -> Modes:
    """
    A loop that posts ready-made bodies with httpx, and reads nothing of what comes back.

    The bodies are what this package sends, so the server does the same work for both.
    """
    builder = _builder()

    def bodies(work: Work) -> list[bytes]:
        return [
            json.dumps(
                {"model": "demo", "input": [prompt.ids for prompt in builder.encode(query, texts)]},
                separators=(",", ":"),
            ).encode()
            for query, texts in work
        ]

    async def run(bodies: list[bytes], concurrency: int) -> list[float]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=600) as client:

            async def post(body: bytes) -> None:
                answer = await client.post(
                    f"{url}/classify", content=body, headers={"Content-Type": "application/json"}
                )
                assert answer.status_code == 200, answer.text

            return await _loop(post, bodies, concurrency)

    def mode(concurrency: int) -> Callable[[Work], Callable[[], list[float]]]:
        def prepare(work: Work) -> Callable[[], list[float]]:
            ready = bodies(work)
            return lambda: asyncio.run(run(ready, concurrency))

        return prepare

    return {f"bare@{n}": mode(n) for n in CONCURRENCIES}


def ours(url: str) -> Modes:
    """This package, awaited from a loop of the caller's; `tokenize` is the part that is its own."""
    from qwen3_reranker import Reranker

    reranker = Reranker(
        base_url=url, tokenizer="demo", max_concurrency=max(CONCURRENCIES), timeout=600
    ).warm_up()
    builder = _builder()

    async def one(call: tuple[str, list[str]]) -> None:
        await reranker.arerank(*call)

    def mode(concurrency: int) -> Callable[[Work], Callable[[], list[float]]]:
        return lambda work: lambda: asyncio.run(_loop(one, work, concurrency))

    def tokenize(work: Work) -> Callable[[], None]:
        def run() -> None:
            for query, texts in work:
                builder.halves(query, texts)

        return run

    return {f"ours@{n}": mode(n) for n in CONCURRENCIES} | {"tokenize": tokenize}


def http_reranker(url: str) -> Modes:
    """langchain-reranker's HttpReranker, in threads: it has no async."""
    from langchain_reranker.rerankers import HttpReranker

    return _langchain("http_reranker", HttpReranker(model="demo", base_url=url, timeout=600))


def langchain_cohere(url: str) -> Modes:
    """langchain-cohere's CohereRerank, in threads: it has no async."""
    from langchain_cohere import CohereRerank
    from pydantic import SecretStr

    model = CohereRerank(model="demo", base_url=url, cohere_api_key=SecretStr("none"), top_n=None)
    return _langchain("langchain_cohere", model)


def llama_index_cohere(url: str) -> Modes:
    """llama-index-postprocessor-cohere-rerank, in threads: it has no async."""
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    postprocessor = CohereRerank(model="demo", base_url=url, api_key="none", top_n=1000)

    def prepared(work: Work) -> list[Callable[[], Any]]:
        return [
            partial(
                postprocessor.postprocess_nodes,
                [NodeWithScore(node=TextNode(text=text)) for text in texts],
                query_str=query,
            )
            for query, texts in work
        ]

    return _threads("llama_index_cohere", prepared)


def _langchain(name: str, compressor: Any) -> Modes:
    from langchain_core.documents import Document

    def prepared(work: Work) -> list[Callable[[], Any]]:
        return [
            partial(compressor.compress_documents, [Document(text) for text in texts], query)
            for query, texts in work
        ]

    return _threads(name, prepared)


def _threads(name: str, prepared: Callable[[Work], list[Callable[[], Any]]]) -> Modes:
    def timed(call: Callable[[], Any]) -> float:
        started = time.perf_counter()
        assert call()
        return time.perf_counter() - started

    def run(calls: list[Callable[[], Any]], concurrency: int) -> list[float]:
        with ThreadPoolExecutor(concurrency) as pool:
            return list(pool.map(timed, calls))

    def mode(concurrency: int) -> Callable[[Work], Callable[[], list[float]]]:
        return lambda work: partial(run, prepared(work), concurrency)

    return {f"{name}@{n}": mode(n) for n in CONCURRENCIES}


async def _loop(
    do: Callable[[T], Awaitable[None]], items: Sequence[T], concurrency: int
) -> list[float]:
    """Do all, so many at a time, and return the seconds that each took."""
    left = iter(items)
    latencies = []

    async def worker() -> None:
        for item in left:
            started = time.perf_counter()
            await do(item)
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return latencies


def _builder() -> PromptBuilder:
    return PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"), 2048)
