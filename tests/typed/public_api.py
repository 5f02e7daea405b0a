"""
The public API as a typed program uses it. It is type-checked, never run.

`make check` checks it against the source, and `make test-install` against the installed wheel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any, assert_type

from fastapi import FastAPI
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnablePassthrough
from llama_index.core.schema import NodeWithScore

from qwen3_reranker import (
    EndpointStats,
    EndpointUsage,
    EngineStats,
    Hit,
    LongDocumentOptions,
    Passage,
    Prompt,
    PromptToken,
    Ranking,
    Reranker,
    SelectionOptions,
    ServerOptions,
    Stats,
    Usage,
)
from qwen3_reranker.bench import BenchResult, Comparison, LoadTest, compare
from qwen3_reranker.bulk import BulkSummary, rerank_files
from qwen3_reranker.evaluation import Dataset, Report, ScoreFile, System, evaluate, tune
from qwen3_reranker.gateway import (
    AliasConfig,
    GatewayConfig,
    Limits,
    Observer,
    create_app,
    read_config,
)
from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
from qwen3_reranker.langchain import RerankInput
from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_reranker.playground import create_page, mount_page, page_app
from qwen3_reranker.selection import Selection, within_budget, without_duplicates
from qwen3_reranker.serve import Launch, compose, dockerfile, kubernetes, launch, shell


def rerank() -> None:
    options: ServerOptions = {"timeout": 5.0, "max_retries": 2}
    with Reranker(base_url=["http://a", "http://b"], on_error="keep_order", **options) as reranker:
        assert_type(reranker, Reranker)
        hits = reranker.rerank("query", ("a", "b"), top_n=1, min_score=0.5)
        assert_type(hits, Ranking)
        assert_type(hits[:1], list[Hit])
        assert_type(hits.usage, Usage)
        same: list[Hit] = hits
        assert_type((same[0].logit, hits.usage.tokens), tuple[float, int])
        assert_type((hits[0].index, hits[0].score, hits[0].text), tuple[int, float, str])
        assert_type(hits[0].error, str | None)
        assert_type(hits[0].passage, Passage | None)
        kept: SelectionOptions = {"drop_duplicates": 0.9, "cut_last": True}
        count = reranker.token_counter()
        assert_type(count("text"), int)
        reranker.rerank("query", ["a"], **kept)
        reranker.rerank_many([("query", ["a"])], token_budget=100, token_counter=count)
        assert_type(Selection(token_budget=9, token_counter=len).of(hits), list[Hit])
        assert_type(without_duplicates(within_budget(hits, 9, count)), list[Hit])
        assert_type(reranker.score("query", ["a"]), list[float])
        assert_type(reranker.rerank_many([("query", ["a"])]), list[Ranking])
        assert_type(reranker.rerank_iter([("query", ["a"])]), Iterator[Ranking])
        assert_type(reranker.prompt("query", "a"), Prompt)
        assert_type(reranker.prompt("query", "a").tokens, list[PromptToken])
        assert_type(reranker.warm_up(), Reranker)
        stats = reranker.stats()
        assert_type(stats, Stats)
        assert_type(stats.endpoints["http://a"], EndpointStats)
        assert_type(stats.engines["0"], EngineStats)
        assert_type(hits.usage.endpoints["http://a"], EndpointUsage)
        assert_type(hits.usage + Usage(tokens=1), Usage)


def long_documents() -> None:
    options: LongDocumentOptions = {"long_documents": "passages", "passage_tokens": 256}
    Reranker("demo", **options)
    Reranker("demo", long_documents="passages", aggregate="mean_top_3", max_passages=8)
    Reranker("demo", long_documents="passages", aggregate=max, passage_overlap=32)
    LangChainRerank(long_documents="passages", aggregate=lambda s: s[0], returns="passage")
    LlamaIndexRerank(model="demo", **options, returns="passage")


def devices() -> None:
    Reranker("demo", devices=range(4), engine_args={"tensor_parallel_size": 2})
    Reranker("demo", devices=["cpu:0-15", "cpu:16-31"])
    LangChainRerank(model="demo", devices=[0, "GPU-8f6a"])
    LlamaIndexRerank(model="demo", devices=[0, 1])


async def bench(reranker: Reranker) -> None:
    test = LoadTest(reranker, rate=20, pairs=[("query", ("a", "b"))], seconds=5)
    assert_type(test.run(), BenchResult)
    result = await test.arun(on_progress=lambda seconds, successful, failed: None)
    assert_type(result.p99_e2el_ms, float | None)
    assert_type(result.errors["ServerError"].count, int)
    assert_type(compare(result, test.result()), Comparison)


def bulk() -> None:
    summary = rerank_files(
        "queries.jsonl",
        "scored",
        model="demo",
        top_n=5,
        ray="auto",
        num_gpus=1,
        on_progress=lambda progress: print(progress.seconds_left),
    )
    assert_type(summary, BulkSummary)
    assert_type(summary.bad_rows, int)


async def arerank() -> None:
    async with Reranker(
        "demo", engine="transformers", engine_args={"dtype": "float32"}
    ) as reranker:
        assert_type(await reranker.arerank("query", ["a"]), Ranking)
        assert_type(await reranker.ascore("query", ["a"]), list[float])
        assert_type(await reranker.arerank_many([("query", ["a"])]), list[Ranking])
        assert_type(reranker.arerank_iter([("query", ["a"])]), AsyncIterator[Ranking])


async def langchain(documents: list[Document]) -> None:
    adapter = LangChainRerank(model="demo", top_n=None, trace_documents=True)
    adapter.keep_retrieval_rank = True
    assert_type(adapter.stats(), Stats)
    assert_type(adapter.compress_documents(documents, "query"), list[Document])
    assert_type(await adapter.acompress_documents(documents, "query"), list[Document])
    step = adapter.as_runnable()
    assert_type(step, Runnable[Mapping[str, Any], list[Document]])
    given: RerankInput = {"query": "query", "documents": documents}
    assert_type(step.invoke(given), list[Document])
    chain = RunnablePassthrough.assign(documents=lambda _: documents) | step
    assert_type(chain.invoke({"query": "query"}), list[Document])


async def llama_index(nodes: list[NodeWithScore]) -> None:
    adapter = LlamaIndexRerank(base_url="http://localhost:8000", top_n=5)
    assert_type(adapter.postprocess_nodes(nodes, query_str="query"), list[NodeWithScore])
    assert_type(await adapter.apostprocess_nodes(nodes, query_str="query"), list[NodeWithScore])
    adapter.top_n = 2
    adapter.token_budget = 100
    adapter.drop_duplicates = True


def playground() -> None:
    page = create_page(Reranker("demo"), Reranker("demo", long_documents="passages"))
    app = FastAPI()
    mount_page(app, page, path="/playground")
    assert_type(page_app(page), FastAPI)


def gateway() -> None:
    aliases = {"tickets": AliasConfig(instruction="Find equal bugs", selection={"cut_last": True})}
    limits = Limits(max_active=8, request_timeout=30)
    config = GatewayConfig(aliases=aliases, limits=limits, keys=("key",))
    observers: list[Observer] = [lambda record: print(record.seconds, record.usage.tokens)]
    assert_type(create_app(Reranker("demo"), config, observers=observers), FastAPI)
    create_app(partial(Reranker, "demo"), read_config("gateway.toml"))


def evaluation() -> None:
    dataset = Dataset.load("folder", split="test")
    assert_type(dataset.retrieve("bm25", depth=20), Dataset)
    systems = System.combinations(models=["demo"], depths=[20, None], timeout=5.0)
    assert_type(systems, list[System])
    with ScoreFile("scores") as cache:
        report = evaluate(dataset, [*systems, Reranker("demo")], metrics=["MRR@10"], cache=cache)
    assert_type(report, Report)
    assert_type(report["demo"].metrics, dict[str, float])
    assert_type([advice.text for advice in report.recommendation], list[str])
    report.save("report.json")
    report.plot("depth", system=report.best.name)
    assert_type(tune(dataset, System(model="demo"), ["a"]).instruction, str | None)


def mistakes() -> None:
    """Each of these is an error to a type checker: an unused `ignore` would be one, too."""
    Reranker(on_error="ignore")  # type: ignore[arg-type]
    Reranker("demo").rerank("query", ["a"], token_counter=str)  # type: ignore[arg-type]
    Reranker("demo").rerank("query", [1])  # type: ignore[list-item]
    LangChainRerank(model="demo").compress_documents(["text"], "query")  # type: ignore[list-item]


def serve() -> None:
    plan = launch("demo", version="0.32.0", device="gpu", api_key_variable="KEY")
    assert_type(plan, Launch)
    assert_type(shell(plan), str)
    assert_type(compose(plan, gateway=True), str)
    assert_type(kubernetes(plan, image="engine", gateway=True, gateway_image="gateway"), str)
    assert_type(dockerfile(), str)
