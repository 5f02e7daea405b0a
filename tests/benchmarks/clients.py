"""The clients that `bench_remote` compares; each loader has modes for 1, 16 and 64 requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import httpx
import orjson
from tokenizers import Tokenizer

from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder

from benchmarks.work import Work
from benchmarks.workers import Modes

CONCURRENCIES = (1, 16, 64)
T = TypeVar("T")


def bare(url: str) -> Modes:
    """
    Load a loop that posts encoded bodies with httpx, and does not parse the responses.

    The bodies are those that this package sends, so the server does the same work for both.
    """
    body = _body(_builder())

    def prepare(work: Work, concurrency: int) -> Callable[[], list[float]]:
        ready = [body(*asked) for asked in work]
        client = _client()
        return lambda: asyncio.run(_post(client, url, ready, lambda made: made, concurrency))

    return {f"bare@{n}": partial(prepare, concurrency=n) for n in CONCURRENCIES}


def bare_tokenizing(url: str) -> Modes:
    """Load `bare`, but tokenize and encode each body right before it is sent."""
    body = _body(_builder())

    def prepare(work: Work, concurrency: int) -> Callable[[], list[float]]:
        client = _client()
        return lambda: asyncio.run(_post(client, url, work, lambda one: body(*one), concurrency))

    return {f"bare_tokenizing@{n}": partial(prepare, concurrency=n) for n in CONCURRENCIES}


def ours(url: str) -> Modes:
    """
    Load this package, awaited on the caller's event loop.

    The mode `tokenize` does only its tokenization, and `tokenizers` the same with that library.
    """
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
                builder.encode_parts(query, texts)

        return run

    def tokenizers(work: Work) -> Callable[[], None]:
        plain = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))

        def run() -> None:
            for _, texts in work:
                for encoding in plain.encode_batch_fast(texts, add_special_tokens=False):
                    encoding.ids  # noqa: B018  # made when it is asked for

        return run

    own = {"tokenize": tokenize, "tokenizers": tokenizers}
    return {f"ours@{n}": mode(n) for n in CONCURRENCIES} | own


def http_reranker(url: str) -> Modes:
    """Load HttpReranker of langchain-reranker, in threads because it has no async methods."""
    from langchain_reranker.rerankers import HttpReranker

    return _langchain("http_reranker", HttpReranker(model="demo", base_url=url, timeout=600))


def langchain_cohere(url: str) -> Modes:
    """Load CohereRerank of langchain-cohere, in threads because it has no async methods."""
    from langchain_cohere import CohereRerank
    from pydantic import SecretStr

    model = CohereRerank(model="demo", base_url=url, cohere_api_key=SecretStr("none"), top_n=None)
    return _langchain("langchain_cohere", model)


def llama_index_cohere(url: str) -> Modes:
    """Load LlamaIndex's CohereRerank, in threads because it has no async methods."""
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


def _body(builder: PromptBuilder) -> Callable[[str, list[str]], bytes]:
    """Return a function that encodes the body that this package sends."""

    def body(query: str, texts: list[str]) -> bytes:
        ids = [prompt.ids for prompt in builder.encode(query, texts)]
        return orjson.dumps({"model": "demo", "input": ids})

    return body


def _client() -> httpx.AsyncClient:
    """Return a client. Creating it takes 20 ms, so it is created before the measurement."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(limits=limits, timeout=600)


async def _post(
    client: httpx.AsyncClient,
    url: str,
    items: Sequence[T],
    body: Callable[[T], bytes],
    concurrency: int,
) -> list[float]:
    """Post all bodies, a given number at a time, and return the seconds of each request."""
    async with client:

        async def post(item: T) -> None:
            answer = await client.post(
                f"{url}/classify", content=body(item), headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 200, answer.text

        return await _loop(post, items, concurrency)


async def _loop(
    do: Callable[[T], Awaitable[None]], items: Sequence[T], concurrency: int
) -> list[float]:
    """Make all calls, a given number at a time, and return the seconds of each."""
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
