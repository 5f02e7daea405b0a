"""
Published clients of rerank servers, each as its own documentation shows it.

As a program this file runs in the environment of the clients (`make .venv-clients/ready`) and
imports nothing of this project. It reads which clients are to rank what from standard input, and
prints what each makes of the server's answers: [index, score] of the documents, best first, or an
error.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Ranking = list[tuple[int, float]]


@dataclass(frozen=True)
class Task:
    """What a client is to do; `root` is the server's URL without a path."""

    root: str
    model: str
    key: str
    query: str
    documents: list[str]
    top_n: int


Run = Callable[[Task], Ranking]

CLIENTS: dict[tuple[str, str], Run] = {}
"""The clients by their package and their class."""


def client(package: str, name: str) -> Callable[[Run], Run]:
    """Register the function that runs a client."""

    def register(run: Run) -> Run:
        CLIENTS[package, name] = run
        return run

    return register


def _cohere(answer: Any) -> Ranking:
    return [(result.index, result.relevance_score) for result in answer.results]


def _request(task: Task) -> dict[str, Any]:
    return {
        "model": task.model,
        "query": task.query,
        "documents": task.documents,
        "top_n": task.top_n,
    }


@client("cohere", "Client(api_url)")
def cohere_4(task: Task) -> Ranking:
    import cohere

    found = cohere.Client(task.key, api_url=task.root)
    return _cohere(found.rerank(**_request(task)))


@client("cohere", "Client")
def cohere_v1(task: Task) -> Ranking:
    import cohere

    found = cohere.Client(task.key, base_url=task.root)
    return _cohere(found.rerank(**_request(task), return_documents=True))


@client("cohere", "ClientV2")
def cohere_v2(task: Task) -> Ranking:
    import cohere

    found = cohere.ClientV2(task.key, base_url=task.root)
    return _cohere(found.rerank(**_request(task)))


@client("cohere", "AsyncClientV2")
def cohere_async(task: Task) -> Ranking:
    import cohere

    async def run() -> Any:
        async with cohere.AsyncClientV2(task.key, base_url=task.root) as found:
            return await found.rerank(**_request(task))

    return _cohere(asyncio.run(run()))


@client("langchain-cohere", "CohereRerank")
def langchain_cohere(task: Task) -> Ranking:
    from langchain_cohere import CohereRerank

    return _langchain(
        task,
        CohereRerank(
            base_url=task.root,
            cohere_api_key=task.key,
            model=task.model,
            top_n=task.top_n,
        ),
    )


@client("langchain-nvidia-ai-endpoints", "NVIDIARerank")
def langchain_nvidia(task: Task) -> Ranking:
    from langchain_nvidia_ai_endpoints import NVIDIARerank

    ranker = NVIDIARerank(
        base_url=f"{task.root}/v1",
        nvidia_api_key=task.key,
        model=task.model,
        top_n=task.top_n,
        usage_telemetry_enabled=False,
    )
    return _probabilities(_langchain(task, ranker))


def _langchain(task: Task, compressor: Any) -> Ranking:
    from langchain_core.documents import Document

    documents = [
        Document(page_content=text, metadata={"index": index})
        for index, text in enumerate(task.documents)
    ]
    found = compressor.compress_documents(documents, task.query)
    return [(one.metadata["index"], one.metadata["relevance_score"]) for one in found]


def _probabilities(ranking: Ranking) -> Ranking:
    return [(index, 1 / (1 + math.exp(-logit))) for index, logit in ranking]


@client("llama-index-postprocessor-cohere-rerank", "CohereRerank")
def llama_index_cohere(task: Task) -> Ranking:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return _llama_index(
        task,
        CohereRerank(base_url=task.root, api_key=task.key, model=task.model, top_n=task.top_n),
    )


@client("llama-index-postprocessor-jinaai-rerank", "JinaRerank")
def llama_index_jina(task: Task) -> Ranking:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return _llama_index(
        task,
        JinaRerank(
            base_url=f"{task.root}/v1",
            api_key=task.key,
            model=task.model,
            top_n=task.top_n,
        ),
    )


@client("llama-index-postprocessor-siliconflow-rerank", "SiliconFlowRerank")
def llama_index_siliconflow(task: Task) -> Ranking:
    from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank

    return _llama_index(
        task,
        SiliconFlowRerank(
            base_url=f"{task.root}/v1/rerank",
            api_key=task.key,
            model=task.model,
            top_n=task.top_n,
        ),
    )


@client("llama-index-postprocessor-xinference-rerank", "XinferenceRerank")
def llama_index_xinference(task: Task) -> Ranking:
    from llama_index.postprocessor.xinference_rerank import XinferenceRerank

    ranker = XinferenceRerank(base_url=task.root, model=task.model, top_n=task.top_n)
    return _llama_index(task, ranker)


@client("llama-index-postprocessor-tei-rerank", "TextEmbeddingInference")
def llama_index_tei(task: Task) -> Ranking:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    ranker = TextEmbeddingInference(
        base_url=task.root, auth_token=f"Bearer {task.key}", top_n=task.top_n
    )
    return _llama_index(task, ranker)


@client("llama-index-postprocessor-nvidia-rerank", "NVIDIARerank")
def llama_index_nvidia(task: Task) -> Ranking:
    from llama_index.postprocessor.nvidia_rerank import NVIDIARerank

    ranker = NVIDIARerank(
        base_url=f"{task.root}/v1",
        api_key=task.key,
        model=task.model,
        top_n=task.top_n,
    )
    return _probabilities(_llama_index(task, ranker))


def _llama_index(task: Task, postprocessor: Any) -> Ranking:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [
        NodeWithScore(node=TextNode(id_=str(index), text=text), score=0.5)
        for index, text in enumerate(task.documents)
    ]
    found = postprocessor.postprocess_nodes(nodes, query_str=task.query)
    return [(int(one.node.node_id), one.score) for one in found]


@client("rerankers", "APIRanker for Cohere")
def rerankers_cohere(task: Task) -> Ranking:
    return _rerankers(task, "cohere", f"{task.root}/v1/rerank")


@client("rerankers", "APIRanker for Jina")
def rerankers_jina(task: Task) -> Ranking:
    return _rerankers(task, "jina", f"{task.root}/v1/rerank")


@client("rerankers", "APIRanker for TEI")
def rerankers_tei(task: Task) -> Ranking:
    return _rerankers(task, "text-embeddings-inference", f"{task.root}/rerank")


def _rerankers(task: Task, provider: str, url: str) -> Ranking:
    from rerankers.models.api_rankers import APIRanker

    ranker = APIRanker(task.model, task.key, provider, url=url)
    found = ranker.rank(task.query, task.documents).top_k(task.top_n)
    return [(int(one.doc_id), one.score) for one in found]


@client("vllm-haystack", "VLLMRanker")
def haystack_vllm(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.vllm import VLLMRanker

    ranker = VLLMRanker(
        model=task.model,
        api_key=Secret.from_token(task.key),
        api_base_url=f"{task.root}/v1",
        top_k=task.top_n,
    )
    return _haystack(task, ranker)


@client("jina-haystack", "JinaRanker")
def haystack_jina(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    ranker = JinaRanker(
        model=task.model,
        api_key=Secret.from_token(task.key),
        top_k=task.top_n,
        base_url=f"{task.root}/v1/rerank",
    )
    return _haystack(task, ranker)


@client("cohere-haystack", "CohereRanker")
def haystack_cohere(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    ranker = CohereRanker(
        model=task.model,
        api_key=Secret.from_token(task.key),
        top_k=task.top_n,
        api_base_url=task.root,
    )
    return _haystack(task, ranker)


@client("huggingface-api-haystack", "HuggingFaceTEIRanker")
def haystack_tei(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    ranker = HuggingFaceTEIRanker(
        url=task.root, top_k=task.top_n, token=Secret.from_token(task.key), max_retries=1
    )
    return _haystack(task, ranker)


def _haystack(task: Task, ranker: Any) -> Ranking:
    from haystack import Document

    documents = [Document(id=str(index), content=text) for index, text in enumerate(task.documents)]
    found = ranker.run(query=task.query, documents=documents)["documents"]
    return [(int(one.id), one.score) for one in found]


@client("xinference-client", "Client")
def xinference(task: Task) -> Ranking:
    from xinference_client import RESTfulClient

    model = RESTfulClient(task.root, api_key=task.key).get_model(task.model)
    answer = model.rerank(task.documents, task.query, top_n=task.top_n, return_documents=True)
    for result in answer["results"]:
        assert result["document"]["text"] == task.documents[result["index"]]
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


def main() -> None:
    """Run the clients that standard input names, and print their rankings as JSON."""
    request = json.load(sys.stdin)
    answers = []
    for package, name in request["clients"]:
        rankings: list[Any] = []
        for query, documents in request["pairs"]:
            try:
                task = Task(query=query, documents=documents, **request["settings"])
                rankings.append(CLIENTS[package, name](task))
            except Exception as error:  # noqa: BLE001  # any failure is a result
                holders = [error, getattr(error, "response", None)]
                found = [getattr(one, "status_code", None) for one in holders]
                status = next(filter(None, [*found, getattr(error, "http_status", None)]), None)
                kind = f"HTTP {status}" if status else type(error).__name__
                rankings.append({"error": kind, "message": str(error)})
        version = importlib.metadata.version(package)
        answers.append({"client": f"{package} {version}, {name}", "rankings": rankings})
    print("ANSWERS", json.dumps(answers))


if __name__ == "__main__":
    main()
