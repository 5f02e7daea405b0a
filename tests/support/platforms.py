"""
How RAG platforms call a rerank server, and what they make of its answer.

Each client sends what its platform sends and reads what its platform reads, as found in the named
source. The published Python clients are not here: they run for real (`client_packages.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

Ranking = list[tuple[int, float]]
"""(index, score) of the documents that a platform keeps, in its order."""

TIMEOUT = 60
TEI_BATCH = 8


class RefusedError(Exception):
    """The server answered with an HTTP error."""


@dataclass(frozen=True)
class Endpoint:
    """
    Where a client is pointed at.

    Args:
        http: Sends the requests: a `requests.Session`, or a test client of an ASGI application.
        root: The server's URL without a path.
        model: The name that the user types as the model.
        key: The API key that the user types; "" if none.
    """

    http: Any
    root: str
    model: str
    key: str = ""

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """Send a body as JSON and return that of the answer, or raise `RefusedError`."""
        url = path if path.startswith("http") else self.root + path
        response = self.http.post(url, json=body, headers=dict(headers), timeout=TIMEOUT)
        return self._read(response)

    def get(self, path: str, headers: Mapping[str, str]) -> Any:
        """Return the JSON at a path, or raise `RefusedError`."""
        response = self.http.get(self.root + path, headers=dict(headers), timeout=TIMEOUT)
        return self._read(response)

    def _read(self, response: Any) -> Any:
        if response.status_code >= 400:
            raise RefusedError(f"HTTP {response.status_code}")
        return response.json()

    def always(self) -> dict[str, str]:
        """The header of a client that sends its key even if it has none."""
        return {"Authorization": f"Bearer {self.key}"}

    def if_set(self) -> dict[str, str]:
        """The header of a client that leaves it out without a key."""
        return self.always() if self.key else {}


Rank = Callable[[Endpoint, str, list[str], int], Ranking]
Expected = Callable[[Sequence[float], int], Ranking]


def best_first(scores: Sequence[float], top_n: int) -> Ranking:
    """Return the best documents, best first."""
    return sorted(enumerate(scores), key=lambda item: -item[1])[:top_n]


def all_documents(scores: Sequence[float], top_n: int) -> Ranking:
    """Return all documents, best first, for platforms that cut the list themselves, later."""
    return best_first(scores, len(scores))


def in_given_order(scores: Sequence[float], top_n: int) -> Ranking:
    """Return all documents as they were given, for platforms that combine the scores first."""
    return list(enumerate(scores))


def stretched(scores: Sequence[float], top_n: int) -> Ranking:
    """Return the best documents with scores that run from 0 to 1 within the answer."""
    best = best_first(scores, top_n)
    low, high = best[-1][1], best[0][1]
    return [(index, (score - low) / (high - low)) for index, score in best]


@dataclass(frozen=True)
class Platform:
    """
    A platform's client.

    Args:
        name: The platform, and which of its providers.
        source: Where its code was read: repository, file, commit.
        fields: What the user types, by the name of the field. `{root}`, `{model}` and `{key}` stand
            for the server's URL, the model and the API key.
        rank: Sends the platform's requests, and returns what the platform makes of the answer.
        expected: What the platform should make of the right scores.
        sends_model: Whether the request names a model, so that an alias can be chosen.
        sends_key: Whether the platform sends an API key at all.
    """

    name: str
    source: str
    fields: Mapping[str, str]
    rank: Rank
    expected: Expected = best_first
    sends_model: bool = field(default=True, kw_only=True)
    sends_key: bool = field(default=True, kw_only=True)


def _body(endpoint: Endpoint, query: str, documents: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"model": endpoint.model, "query": query, "documents": documents, **more}


def _as_returned(results: Sequence[Mapping[str, Any]]) -> Ranking:
    """Read results in the order of the answer."""
    return [(result["index"], result["relevance_score"]) for result in results]


def _by_score(ranking: Ranking) -> Ranking:
    return sorted(ranking, key=lambda item: -item[1])


def _check_texts(results: Sequence[Mapping[str, Any]], documents: Sequence[str]) -> None:
    """Check the texts of clients that go on with the returned text instead of their own."""
    for result in results:
        assert result["document"]["text"] == documents[result["index"]]


# FastGPT. The query's tokens and those of a document count up to 8000; a longer document is sent in
# parts, and the best part counts.


def fastgpt(extra: Mapping[str, Any]) -> Rank:
    def rank(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
        kept = [(index, text.strip()) for index, text in enumerate(documents) if text.strip()]
        body = _body(endpoint, query, [text for _, text in kept], **extra)
        answer = endpoint.post("/v1/rerank", body, endpoint.always())
        tokens = answer.get("meta", {}).get("tokens", {}).get("input_tokens", 1)
        assert tokens > 0
        best: dict[int, float] = {}
        for result in answer.get("results") or []:
            # The first result of a document is taken for its best.
            best.setdefault(kept[result["index"]][0], result["relevance_score"])
        return list(best.items())

    return rank


# Dify. A document below the threshold of the knowledge base is dropped by the plugin.


def _dify_openai(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=top_n)
    answer = endpoint.post("/v1/rerank", body, endpoint.if_set())
    results = answer.get("results", [])
    ranking = [(result.get("index", 0), result.get("relevance_score", 0.0)) for result in results]
    return _by_score([item for item in ranking if item[0] < len(documents)])[:top_n]


def _dify_sdk(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=None, return_documents=True)
    answer = endpoint.post("/v1/rerank", body, endpoint.if_set())
    results = answer["results"]
    scores = [result["relevance_score"] for result in results]
    span = max(scores) - min(scores) or 1.0
    for result in results:
        document = result.get("document") or {}
        text = document if isinstance(document, str) else document.get("text")
        assert text in (None, documents[result["index"]])
    return _by_score([(r["index"], (r["relevance_score"] - min(scores)) / span) for r in results])


def _dify_xinference(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    # When the model is added. The client sends its key only if the server says that it needs one.
    status = endpoint.http.get(f"{endpoint.root}/v1/cluster/auth", timeout=TIMEOUT)
    needs_key = status.status_code != 404 and status.json()["auth"]
    model = endpoint.get(
        f"/v1/models/{endpoint.model}", endpoint.always() if needs_key and endpoint.key else {}
    )
    assert model["model_type"] == "rerank"
    unused = {"max_chunks_per_doc": None, "return_len": None, "kwargs": "{}"}
    body = _body(endpoint, query, documents, top_n=top_n, return_documents=True, **unused)
    results = endpoint.post("/v1/rerank", body, endpoint.if_set())["results"]
    _check_texts(results, documents)
    return _as_returned(results)


def _dify_tei(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    headers = {"Content-Type": "application/json", **endpoint.if_set()}
    info = endpoint.get("/info", headers)
    assert next(iter(info["model_type"])) == "reranker"
    assert info.get("max_input_length", 512) > 0
    body = {"query": query, "texts": documents, "return_text": True}
    results = endpoint.post("/rerank", body, headers)
    assert all(result["text"] == documents[result["index"]] for result in results)
    return [(result["index"], result["score"]) for result in results][:top_n]


def _dify_gpustack(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    return _dify_with_optional_text(endpoint, query, documents, top_n)


def _dify_localai(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    # Its form has no field for a key, so it sends what Python makes of the missing one.
    return _dify_with_optional_text(replace(endpoint, key="None"), query, documents, None)


def _dify_with_optional_text(
    endpoint: Endpoint, query: str, documents: list[str], top_n: int | None
) -> Ranking:
    body = _body(endpoint, query, documents, top_n=top_n)
    results = endpoint.post("/v1/rerank", body, endpoint.always())["results"]
    # The platform does not expect a null.
    _check_texts([result for result in results if "document" in result], documents)
    return _as_returned(results)


def _dify_siliconflow(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=top_n, return_documents=True)
    answer = endpoint.post("/v1/rerank", body, endpoint.always())
    _check_texts(answer["results"], documents)
    return _as_returned(answer["results"])


def _dify_jina(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=top_n, return_documents=False)
    return _as_returned(endpoint.post("/v1/rerank", body, endpoint.always())["results"])


def _dify_ollama(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    # The base URL is taken as it is if it ends in /rerank.
    body = _body(endpoint, query, documents, top_n=top_n)
    results = endpoint.post("/v1/rerank", body, endpoint.if_set()).get("results", [])[:top_n]
    # The text of the result is the document if there is one, and has to be a string.
    assert all(isinstance(result.get("document", ""), str) for result in results)
    return _as_returned(results)


def _dify_openrouter(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=top_n)
    headers = {**endpoint.always(), "HTTP-Referer": "https://dify.ai/", "X-Title": "Dify"}
    return _as_returned(endpoint.post("/v1/rerank", body, headers)["results"])


# RAGFlow. Scores become an array in the order of the documents.


def _ragflow(results: Sequence[Mapping[str, Any]], count: int, score: str) -> Ranking:
    array = [0.0] * count
    for result in results:
        array[result["index"]] = result[score]
    low, high = min(array), max(array)
    if low < 0 or high > 1:
        # Only such scores are stretched.
        array = [(value - low) / (high - low) for value in array]
    return list(enumerate(array))


def _ragflow_openai(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    # The documents are cut to 500 tokens of another model's tokenizer.
    base = f"{endpoint.root}/v1"
    url = base if "/rerank" in base else urljoin(f"{base}/", "rerank")
    body = _body(endpoint, query, documents, top_n=len(documents))
    answer = endpoint.post(url, body, endpoint.always())
    return _ragflow(answer.get("results", []), len(documents), "relevance_score")


def _ragflow_cohere(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    # What cohere's v1 client makes of a base URL without /v1.
    body = _body(endpoint, query, documents, top_n=len(documents), return_documents=False)
    answer = endpoint.post("/v1/rerank", body, {**endpoint.always(), "X-Client-Name": ""})
    assert all(isinstance(result["index"], int) for result in answer["results"])
    return _ragflow(answer["results"], len(documents), "relevance_score")


def _ragflow_go(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=len(documents))
    answer = endpoint.post("/v1/rerank", body, endpoint.if_set())
    return sorted(_as_returned(answer["results"]))


def _ragflow_tei(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    scores: list[float] = []
    for start in range(0, len(documents), TEI_BATCH):
        texts = documents[start : start + TEI_BATCH]
        body = {"query": query, "texts": texts, "raw_scores": False, "truncate": True}
        answer = endpoint.post("/rerank", body, {"Content-Type": "application/json"})
        scores += [score for _, score in _ragflow(answer, len(texts), "score")]
    return list(enumerate(scores))


def _ragflow_xinference(
    endpoint: Endpoint, query: str, documents: list[str], top_n: int
) -> Ranking:
    body = _body(endpoint, query, documents, return_documents="true", return_len="true")
    headers = {"accept": "application/json", **endpoint.if_set()}
    answer = endpoint.post("/v1/rerank", body, headers)
    return _ragflow(answer.get("results", []), len(documents), "relevance_score")


def _ragflow_nvidia(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = {
        "model": endpoint.model,
        "query": {"text": query},
        "passages": [{"text": text} for text in documents],
        "truncate": "END",
        "top_n": len(documents),
    }
    answer = endpoint.post("/v1/reranking", body, endpoint.always())
    return _ragflow(answer.get("rankings", []), len(documents), "logit")


def _log_odds_stretched(scores: Sequence[float], top_n: int) -> Ranking:
    logits = [math.log(score / (1 - score)) for score in scores]
    return sorted(stretched(logits, len(logits)))


# Others.


def _open_webui(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=len(documents))
    answer = endpoint.post("/v1/rerank", body, endpoint.always())
    # Scores are taken by position, so a missing index would shift them to other documents.
    results = sorted(answer["results"], key=lambda result: result["index"])
    return list(enumerate(result["relevance_score"] for result in results))


def lightrag(path: str, extra: Mapping[str, Any]) -> Rank:
    def rank(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
        body = _body(endpoint, query, documents, top_n=top_n, **extra)
        return _as_returned(endpoint.post(path, body, endpoint.if_set())["results"])

    return rank


def _n8n(endpoint: Endpoint, query: str, documents: list[str], top_n: int) -> Ranking:
    body = _body(endpoint, query, documents, top_n=min(top_n, len(documents)))
    headers = {"Accept": "application/json", **endpoint.if_set()}
    answer = endpoint.post("/v1/rerank", body, headers)
    ranking = [
        (result["index"], result.get("relevance_score") or result.get("score") or 0)
        for result in answer["results"]
    ]
    return _by_score(ranking)


DIFY = "langgenius/dify-official-plugins models/{}/models/rerank/rerank.py @7af2283"
LIGHTRAG = {"RERANK_MODEL": "{model}", "RERANK_BINDING_API_KEY": "{key}"}
RAGFLOW = "infiniflow/ragflow rag/llm/rerank_model.py @b1b8cd6"
_FASTGPT = "labring/FastGPT packages/service/core/ai/rerank/index.ts @0352c5d"

PLATFORMS = [
    Platform(
        "FastGPT",
        _FASTGPT,
        {"Model ID": "{model}", "Custom url": "{root}/v1/rerank", "Custom key": "{key}"},
        fastgpt({}),
        all_documents,
    ),
    Platform(
        "Dify, OpenAI-API-compatible",
        DIFY.format("openai_api_compatible"),
        {"Model Name": "{model}", "API Base URL": "{root}/v1", "API Key": "{key}"},
        _dify_openai,
    ),
    Platform(
        "Dify, plugins on the SDK's own client",
        "langgenius/dify-plugin-sdks src/dify_plugin/interfaces/model/openai_compatible/rerank.py"
        " @28d1d22",
        {"Model Name": "{model}", "API Base URL": "{root}/v1", "API Key": "{key}"},
        _dify_sdk,
        lambda scores, top_n: stretched(scores, len(scores)),
    ),
    Platform(
        "Dify, Xinference",
        DIFY.format("xinference"),
        {"Server url": "{root}", "Model uid": "{model}", "API key": "{key}"},
        _dify_xinference,
    ),
    Platform(
        "Dify, Text Embedding Inference",
        DIFY.format("huggingface_tei"),
        {"Server url": "{root}", "API Key": "{key}"},
        _dify_tei,
        sends_model=False,
    ),
    Platform(
        "Dify, GPUStack",
        DIFY.format("gpustack"),
        {"Model Name": "{model}", "Server URL": "{root}", "API Key": "{key}"},
        _dify_gpustack,
    ),
    Platform(
        "Dify, LocalAI",
        DIFY.format("localai"),
        {"Model Name": "{model}", "Server url": "{root}/v1"},
        _dify_localai,
        all_documents,
        sends_key=False,
    ),
    Platform(
        "Dify, Ollama",
        DIFY.format("ollama"),
        {"Model Name": "{model}", "Base URL": "{root}/v1/rerank", "API Key": "{key}"},
        _dify_ollama,
    ),
    Platform("Dify, SiliconFlow", DIFY.format("siliconflow"), {}, _dify_siliconflow),
    Platform("Dify, Jina", DIFY.format("jina"), {}, _dify_jina),
    Platform("Dify, OpenRouter", DIFY.format("openrouter"), {}, _dify_openrouter),
    Platform(
        "RAGFlow, OpenAI-API-Compatible",
        RAGFLOW,
        {"Model name": "{model}", "Base URL": "{root}/v1", "API Key": "{key}"},
        _ragflow_openai,
        in_given_order,
    ),
    Platform(
        "RAGFlow, VLLM or Cohere (Python)",
        RAGFLOW,
        {"Model name": "{model}", "Base URL": "{root}", "API Key": "{key}"},
        _ragflow_cohere,
        in_given_order,
    ),
    Platform(
        "RAGFlow, VLLM (Go)",
        "infiniflow/ragflow internal/entity/models/vllm.go @b1b8cd6",
        {"Model name": "{model}", "Base URL": "{root}/v1", "API Key": "{key}"},
        _ragflow_go,
        in_given_order,
    ),
    Platform(
        "RAGFlow, HuggingFace (TEI)",
        RAGFLOW,
        {"Base URL": "{root}"},
        _ragflow_tei,
        in_given_order,
        sends_model=False,
        sends_key=False,
    ),
    Platform(
        "RAGFlow, Xinference",
        RAGFLOW,
        {"Model name": "{model}", "Base URL": "{root}", "API Key": "{key}"},
        _ragflow_xinference,
        in_given_order,
    ),
    Platform(
        "RAGFlow, NVIDIA",
        RAGFLOW,
        {"Model name": "{model}", "Base URL": "{root}/v1", "API Key": "{key}"},
        _ragflow_nvidia,
        _log_odds_stretched,
    ),
    Platform(
        "Open WebUI",
        "open-webui/open-webui backend/open_webui/retrieval/models/external.py @ab233f8",
        {"API Base URL": "{root}/v1/rerank", "API Key": "{key}", "Reranking Model": "{model}"},
        _open_webui,
        in_given_order,
    ),
    Platform(
        "LightRAG, binding cohere",
        "HKUDS/LightRAG lightrag/rerank.py @08d65b3",
        LIGHTRAG | {"RERANK_BINDING": "cohere", "RERANK_BINDING_HOST": "{root}/v2/rerank"},
        lightrag("/v2/rerank", {}),
    ),
    Platform(
        "LightRAG, binding jina",
        "HKUDS/LightRAG lightrag/rerank.py @08d65b3",
        LIGHTRAG | {"RERANK_BINDING": "jina", "RERANK_BINDING_HOST": "{root}/v1/rerank"},
        lightrag("/v1/rerank", {"return_documents": False}),
    ),
    Platform(
        "n8n, Universal Reranker node",
        "dalisys/n8n-nodes-universal-reranker nodes/shared/rerank.helpers.ts @1bafb7e",
        {"Endpoint": "{root}/v1/rerank", "Model": "{model}"},
        _n8n,
    ),
]
