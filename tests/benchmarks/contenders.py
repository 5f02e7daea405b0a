"""The contenders of `bench_embedded`; each loader returns the modes of its process."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from qwen3_reranker.embedded.engine_args import cpu_environment

from benchmarks.work import Work
from benchmarks.workers import Modes
from support.engine_processes import engine_of

CHAINS = 32


def environment() -> dict[str, str]:
    """Return the variables of all contenders: on a CPU, all cores, as this package uses."""
    return {} if _device() == "cuda" else cpu_environment()


def cross_encoder(folder: str) -> Modes:
    """
    Load sentence-transformers with the converted checkpoint, in its default batches of 32.

    LangChain's CrossEncoderReranker and LlamaIndex's SentenceTransformerRerank run the same. It
    gets the prompt in two parts, so that it spends no time on a chat template.
    """
    import torch
    from sentence_transformers import CrossEncoder

    from qwen3_reranker.convert import convert
    from qwen3_reranker.model.template import TextWriter

    target = Path(folder).with_name("converted")
    convert(folder, target, engine="vllm")  # without a chat template
    model = CrossEncoder(
        str(target), device=_device(), max_length=8192, model_kwargs={"dtype": torch.bfloat16}
    )
    text = TextWriter()

    def one(query: str, texts: list[str]) -> int:
        return len(model.predict([(text.head(query), text.tail(t)) for t in texts]))

    return {"cross_encoder": _each(one)}


def transformers(folder: str) -> Modes:
    """Load this package with the transformers engine, which serves systems without vLLM."""
    from qwen3_reranker import Reranker

    # Random weights would fail the check.
    reranker = Reranker(folder, engine="transformers", check=False).warm_up()
    return {"transformers": _each(lambda query, texts: len(reranker.rerank(query, texts)))}


def recipe(folder: str) -> Modes:
    """
    Load the model card's transformers script.

    It puts all documents into one batch. `recipe_8` uses batches of eight, which need less padding.
    """
    from qwen3_reranker import Reranker
    from qwen3_reranker.embedded.reference import TransformersScorer

    def mode(size: int) -> Callable[[Work], Callable[[], int]]:
        scorer = TransformersScorer(folder, dtype="bfloat16", device=_device(), batch_size=size)
        reranker = Reranker(scorer=scorer).warm_up()
        return _each(lambda query, texts: len(reranker.score(query, texts)))

    return {"recipe": mode(64), "recipe_8": mode(8)}


def llm_score(folder: str) -> Modes:
    """Load vLLM's LLM.score with the prompt split as its documentation does, and its defaults."""
    from vllm import LLM

    from qwen3_reranker.model.layout import ORIGINAL
    from qwen3_reranker.model.template import TextWriter

    model: Any = LLM(folder, runner="pooling", hf_overrides=ORIGINAL)
    text = TextWriter()

    def one(query: str, texts: list[str]) -> int:
        return len(model.score(text.head(query), [text.tail(t) for t in texts], use_tqdm=False))

    return {"llm_score": _fresh(model.reset_prefix_cache, _each(one))}


def raw(folder: str) -> Modes:
    """Load vLLM's LLM, which gets our ids and arguments, one query at a time or all at once."""
    return raw_with(json.dumps({"folder": folder, "args": {}}))


def raw_with(settings: str) -> Modes:
    """Load `raw` with other arguments; `settings` is JSON: {"folder": ..., "args": {...}}."""
    from vllm import LLM, PoolingParams, TokensPrompt
    from vllm.platforms import current_platform

    from qwen3_reranker.embedded.engine_args import engine_arguments
    from qwen3_reranker.embedded.engine_process import can_compile
    from qwen3_reranker.model.checkpoint import Checkpoint

    folder, more = json.loads(settings).values()
    checkpoint = Checkpoint.load(folder)
    prompts = checkpoint.prompts(None)
    memory = None if current_platform.is_cpu() else current_platform.get_device_total_memory()
    arguments = engine_arguments(
        checkpoint,
        prompts.max_length,
        more,
        device_memory=memory,
        can_compile=memory is not None or can_compile(),
    )
    model: Any = LLM(**arguments)
    params = PoolingParams(task="classify", use_activation=False)

    def encode(batches: list[list[Any]]) -> int:
        return sum(
            len(model.encode(batch, params, pooling_task="classify", use_tqdm=False))
            for batch in batches
        )

    def ids(work: Work) -> list[list[Any]]:
        return [
            [TokensPrompt(prompt_token_ids=prompt.ids) for prompt in prompts.encode(query, texts)]
            for query, texts in work
        ]

    def by_query(work: Work) -> Callable[[], int]:
        return partial(encode, ids(work))

    def in_one_batch(work: Work) -> Callable[[], int]:
        return partial(encode, [sum(ids(work), [])])

    def shortest_first(work: Work) -> Callable[[], int]:
        return partial(
            encode,
            [
                sorted(batch, key=lambda prompt: len(prompt["prompt_token_ids"]))
                for batch in ids(work)
            ],
        )

    fresh = partial(_fresh, model.reset_prefix_cache)
    return {
        "raw": fresh(by_query),
        "raw_batch": fresh(in_one_batch),
        "shortest_first": fresh(shortest_first),
    }


def ours(folder: str) -> Modes:
    """Load this package: one query at a time, as `raw` does, and 32 concurrent chains."""
    from langchain_core.documents import Document
    from llama_index.core.schema import NodeWithScore, TextNode

    from qwen3_reranker import Reranker, event_loop
    from qwen3_reranker.langchain import Qwen3Rerank as LangChainRerank
    from qwen3_reranker.llama_index import Qwen3Rerank as LlamaIndexRerank

    # Random weights would fail the check.
    reranker = Reranker(folder, check=False).warm_up()
    compressor = LangChainRerank(reranker=reranker, top_n=None)
    postprocessor = LlamaIndexRerank(reranker=reranker, top_n=None)
    pool = ThreadPoolExecutor(CHAINS)

    def compress(query: str, documents: list[Document]) -> int:
        return len(compressor.compress_documents(documents, query))

    def langchain(work: Work) -> Callable[[], int]:
        calls = [(query, [Document(text) for text in texts]) for query, texts in work]
        return lambda: sum(compress(*call) for call in calls)

    def llama_index(work: Work) -> Callable[[], int]:
        calls = [(q, [NodeWithScore(node=TextNode(text=t)) for t in texts]) for q, texts in work]
        return lambda: sum(
            len(postprocessor.postprocess_nodes(nodes, query_str=query)) for query, nodes in calls
        )

    def chains(work: Work) -> Callable[[], int]:
        queries = [query for query, _ in work]
        documents = [[Document(text) for text in texts] for _, texts in work]
        return lambda: sum(pool.map(compress, queries, documents))

    modes: Modes = {
        "reranker": _each(lambda query, texts: len(reranker.rerank(query, texts))),
        "langchain": langchain,
        "llama_index": llama_index,
        "chains": chains,
        "rerank_many": lambda work: lambda: sum(map(len, reranker.rerank_many(work))),
    }
    engine = engine_of(reranker)

    def reset() -> None:
        event_loop.run(engine.running.client.reset_prefix_cache())

    return {name: _fresh(reset, mode) for name, mode in modes.items()}


def several(settings: str) -> Modes:
    """Load this package; `settings` is JSON: {"folder": ..., "engines": ...}."""
    from qwen3_reranker import Reranker

    folder, engines = json.loads(settings).values()
    # Random weights would fail the check.
    arguments = {"data_parallel_size": engines}
    reranker = Reranker(folder, check=False, engine_args=arguments).warm_up()
    return {
        "one query at a time": _each(lambda query, texts: len(reranker.rerank(query, texts))),
        "all queries at once": lambda work: lambda: sum(map(len, reranker.rerank_many(work))),
    }


def _each(one: Callable[[str, list[str]], int]) -> Callable[[Work], Callable[[], int]]:
    """Return a mode that scores one query after the other."""
    return lambda work: lambda: sum(one(query, texts) for query, texts in work)


def _fresh(
    reset: Callable[[], object], mode: Callable[[Work], Callable[[], int]]
) -> Callable[[Work], Callable[[], int]]:
    """Return the mode, with a prefix cache that is empty at the start of each turn."""

    def prepare(work: Work) -> Callable[[], int]:
        reset()
        return mode(work)

    return prepare


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
