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
    """
    What a client is to do.

    Args:
        url: The URL that the client is given.
        model: The model's name.
        key: An API key.
        query: The query.
        documents: The documents to rank.
        top_n: How many of them to keep.
    """

    url: str
    model: str
    key: str
    query: str
    documents: list[str]
    top_n: int


Run = Callable[[Task], Ranking]


@dataclass(frozen=True)
class Client:
    """
    A class of a package.

    Args:
        package: The package on PyPI.
        name: The class.
        argument: The argument that takes the URL.
        path: What is added to the server's root to make that URL.
        provider: The service whose protocol the class is told to speak; "" if it knows only one.
        run: Has the client rank documents.
    """

    package: str
    name: str
    argument: str
    path: str
    provider: str
    run: Run


CLIENTS: list[Client] = []


def client(
    package: str, name: str, argument: str, path: str = "", provider: str = ""
) -> Callable[[Run], Run]:
    """Register the function that runs a client."""

    def register(run: Run) -> Run:
        CLIENTS.append(Client(package, name, argument, path, provider, run))
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


@client("cohere", "Client", "api_url")
def cohere_4(task: Task) -> Ranking:
    import cohere

    found = cohere.Client(task.key, api_url=task.url)
    return _cohere(found.rerank(**_request(task)))


@client("cohere", "Client", "base_url")
def cohere_v1(task: Task) -> Ranking:
    import cohere

    found = cohere.Client(task.key, base_url=task.url)
    return _cohere(found.rerank(**_request(task), return_documents=True))


@client("cohere", "ClientV2", "base_url")
def cohere_v2(task: Task) -> Ranking:
    import cohere

    found = cohere.ClientV2(task.key, base_url=task.url)
    return _cohere(found.rerank(**_request(task)))


@client("cohere", "AsyncClientV2", "base_url")
def cohere_async(task: Task) -> Ranking:
    import cohere

    async def run() -> Any:
        async with cohere.AsyncClientV2(task.key, base_url=task.url) as found:
            return await found.rerank(**_request(task))

    return _cohere(asyncio.run(run()))


@client("langchain-cohere", "CohereRerank", "base_url")
def langchain_cohere(task: Task) -> Ranking:
    from langchain_cohere import CohereRerank

    return _langchain(
        task,
        CohereRerank(
            base_url=task.url,
            cohere_api_key=task.key,
            model=task.model,
            top_n=task.top_n,
        ),
    )


@client("langchain-nvidia-ai-endpoints", "NVIDIARerank", "base_url", "/v1")
def langchain_nvidia(task: Task) -> Ranking:
    from langchain_nvidia_ai_endpoints import NVIDIARerank

    ranker = NVIDIARerank(
        base_url=task.url,
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


@client("llama-index-postprocessor-cohere-rerank", "CohereRerank", "base_url")
def llama_index_cohere(task: Task) -> Ranking:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return _llama_index(
        task,
        CohereRerank(base_url=task.url, api_key=task.key, model=task.model, top_n=task.top_n),
    )


@client("llama-index-postprocessor-jinaai-rerank", "JinaRerank", "base_url", "/v1")
def llama_index_jina(task: Task) -> Ranking:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return _llama_index(
        task,
        JinaRerank(
            base_url=task.url,
            api_key=task.key,
            model=task.model,
            top_n=task.top_n,
        ),
    )


@client(
    "llama-index-postprocessor-siliconflow-rerank", "SiliconFlowRerank", "base_url", "/v1/rerank"
)
def llama_index_siliconflow(task: Task) -> Ranking:
    from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank

    return _llama_index(
        task,
        SiliconFlowRerank(
            base_url=task.url,
            api_key=task.key,
            model=task.model,
            top_n=task.top_n,
        ),
    )


@client("llama-index-postprocessor-xinference-rerank", "XinferenceRerank", "base_url")
def llama_index_xinference(task: Task) -> Ranking:
    from llama_index.postprocessor.xinference_rerank import XinferenceRerank

    ranker = XinferenceRerank(base_url=task.url, model=task.model, top_n=task.top_n)
    return _llama_index(task, ranker)


@client("llama-index-postprocessor-tei-rerank", "TextEmbeddingInference", "base_url")
def llama_index_tei(task: Task) -> Ranking:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    ranker = TextEmbeddingInference(
        base_url=task.url, auth_token=f"Bearer {task.key}", top_n=task.top_n
    )
    return _llama_index(task, ranker)


@client("llama-index-postprocessor-nvidia-rerank", "NVIDIARerank", "base_url", "/v1")
def llama_index_nvidia(task: Task) -> Ranking:
    from llama_index.postprocessor.nvidia_rerank import NVIDIARerank

    ranker = NVIDIARerank(
        base_url=task.url,
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


@client("rerankers", "APIRanker", "url", "/v1/rerank", "cohere")
def rerankers_cohere(task: Task) -> Ranking:
    return _rerankers(task, "cohere")


@client("rerankers", "APIRanker", "url", "/v1/rerank", "jina")
def rerankers_jina(task: Task) -> Ranking:
    return _rerankers(task, "jina")


@client("rerankers", "APIRanker", "url", "/rerank", "text-embeddings-inference")
def rerankers_tei(task: Task) -> Ranking:
    return _rerankers(task, "text-embeddings-inference")


def _rerankers(task: Task, provider: str) -> Ranking:
    from rerankers.models.api_rankers import APIRanker

    ranker = APIRanker(task.model, task.key, provider, url=task.url)
    found = ranker.rank(task.query, task.documents).top_k(task.top_n)
    return [(int(one.doc_id), one.score) for one in found]


@client("vllm-haystack", "VLLMRanker", "api_base_url", "/v1")
def haystack_vllm(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.vllm import VLLMRanker

    ranker = VLLMRanker(
        model=task.model,
        api_key=Secret.from_token(task.key),
        api_base_url=task.url,
        top_k=task.top_n,
    )
    return _haystack(task, ranker)


@client("jina-haystack", "JinaRanker", "base_url", "/v1/rerank")
def haystack_jina(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    ranker = JinaRanker(
        model=task.model,
        api_key=Secret.from_token(task.key),
        top_k=task.top_n,
        base_url=task.url,
    )
    return _haystack(task, ranker)


@client("cohere-haystack", "CohereRanker", "api_base_url")
def haystack_cohere(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    ranker = CohereRanker(
        model=task.model,
        api_key=Secret.from_token(task.key),
        top_k=task.top_n,
        api_base_url=task.url,
    )
    return _haystack(task, ranker)


@client("huggingface-api-haystack", "HuggingFaceTEIRanker", "url")
def haystack_tei(task: Task) -> Ranking:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    ranker = HuggingFaceTEIRanker(
        url=task.url, top_k=task.top_n, token=Secret.from_token(task.key), max_retries=1
    )
    return _haystack(task, ranker)


def _haystack(task: Task, ranker: Any) -> Ranking:
    from haystack import Document

    documents = [Document(id=str(index), content=text) for index, text in enumerate(task.documents)]
    found = ranker.run(query=task.query, documents=documents)["documents"]
    return [(int(one.id), one.score) for one in found]


@client("xinference-client", "Client", "base_url")
def xinference(task: Task) -> Ranking:
    from xinference_client import RESTfulClient

    model = RESTfulClient(task.url, api_key=task.key).get_model(task.model)
    answer = model.rerank(task.documents, task.query, top_n=task.top_n, return_documents=True)
    for result in answer["results"]:
        assert result["document"]["text"] == task.documents[result["index"]]
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


def main() -> None:
    """Run the clients that standard input names, and print their rankings as JSON."""
    request = json.load(sys.stdin)
    answers = []
    for index in request["clients"]:
        chosen = CLIENTS[index]
        settings = request["settings"] | {"url": request["root"] + chosen.path}
        rankings: list[Any] = []
        for query, documents in request["pairs"]:
            try:
                rankings.append(chosen.run(Task(query=query, documents=documents, **settings)))
            except Exception as error:  # noqa: BLE001  # any failure is a result
                holders = [error, getattr(error, "response", None)]
                found = [getattr(one, "status_code", None) for one in holders]
                status = next(filter(None, [*found, getattr(error, "http_status", None)]), None)
                kind = f"HTTP {status}" if status else type(error).__name__
                rankings.append({"error": kind, "message": str(error)})
        version = importlib.metadata.version(chosen.package)
        answers.append({"client": index, "version": version, "rankings": rankings})
    print("ANSWERS", json.dumps(answers))


if __name__ == "__main__":
    main()
