"""A server in memory, whose scores depend on the template of the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from qwen3_reranker.dialects import Dialect
from qwen3_reranker.errors import ServerError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION, PREFIX, SUFFIX
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection import Detector
from qwen3_reranker.remote.responses import JsonResponse, RetryableError
from qwen3_reranker.remote.server_client import ServerClient

DEMO = (DEMO_MODEL / "tokenizer.json").read_text("utf-8")
_TOKENIZER = Tokenizer.from_str(DEMO)
YES, NO = PromptBuilder(DEMO).yes, PromptBuilder(DEMO).no
NOT_FOUND = ServerError("http://h answered 404: Not Found", 404)


class FakeReranker(ServerClient):
    """
    A client of a server that has the endpoints that a test names.

    Args:
        paths: The endpoint at each path: the name of a method, or an error to raise.
        gets: The responses to GET requests by path. Any other path is a 404.
        template: Whether the server writes the template.
        usage: Whether the server reports the number of tokens.
        scores: Returns a score. Its arguments are whether the passage is the right one, and how
            many times the prompt contains the template.
    """

    def __init__(
        self,
        paths: dict[str, str | ServerError],
        gets: dict[str, Any] | None = None,
        *,
        template: bool = False,
        usage: bool = True,
        scores: Callable[[bool, int], float] | None = None,
    ) -> None:  # the connections of a client are not needed
        self.paths = paths
        self.gets = gets or {}
        self.template = template
        self.usage = usage
        self.scores = scores or _scores
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.got: list[str] = []
        self.adopted: list[list[str]] = []
        self.adopts = False
        self.tokens = 0

    async def get(self, path: str) -> Any:
        self.got.append(path)
        answer = self.gets.get(path, NOT_FOUND)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def post(self, path: str, body: Mapping[str, Any]) -> JsonResponse:
        self.asked.append((path, dict(body)))
        method = self.paths.get(path, NOT_FOUND)
        if isinstance(method, Exception):
            raise method
        self.tokens = 0
        try:
            answer = getattr(self, method)(body)
        except KeyError as error:
            raise ServerError(f"http://h{path} answered 422: missing field {error}", 422) from None
        if self.usage and isinstance(answer, dict) and "tokens" not in answer:
            answer["usage"] = {"prompt_tokens": self.tokens, "total_tokens": self.tokens}
        return JsonResponse(answer)

    def adopt_key(self, dialects: Sequence[Dialect]) -> bool:
        self.adopted.append([dialect.name for dialect in dialects])
        return self.adopts

    def detector(self, base_url: str = "http://h", **settings: Any) -> Detector:
        given: dict[str, Any] = dict.fromkeys(("dialect", "model", "tokenizer", "max_length"))
        given |= {"template": "auto"} | settings
        self.address = Address.parse(base_url)
        return Detector(self, **given)

    # Endpoints.

    def classify(self, body: Any) -> Any:
        return {
            "data": [{"index": i, "probs": [self._read(p)]} for i, p in enumerate(body["input"])]
        }

    def two_labels(self, body: Any) -> Any:
        if not all(isinstance(prompt, str) for prompt in body["input"]):
            raise ServerError("http://h answered 400: Input should be a valid string", 400)
        found = [self._read(prompt) for prompt in body["input"]]
        return {"data": [{"index": i, "probs": [1 - p, p]} for i, p in enumerate(found)]}

    def score(self, body: Any) -> Any:
        found = self._pairs(body["text_1"], body["text_2"])
        return {"data": [{"index": i, "score": p} for i, p in enumerate(found)]}

    def rerank(self, body: Any) -> Any:
        found = enumerate(self._pairs(body["query"], body["documents"]))
        results = [{"index": i, "relevance_score": p} for i, p in found]
        return {"results": sorted(results, key=lambda r: -r["relevance_score"])}

    def bare(self, body: Any) -> Any:
        found = enumerate(self._pairs(body["query"], body["documents"]))
        return [{"score": p, "index": i, "meta_info": None} for i, p in found]

    def tei(self, body: Any) -> Any:
        return [
            {"index": i, "score": p}
            for i, p in enumerate(self._pairs(body["query"], body["texts"]))
        ]

    def sglang_score(self, body: Any) -> Any:
        found = [self._read(body["query"] + item) for item in body["items"]]
        right = body["label_token_ids"] == [YES, NO]
        return {"scores": [[p, 1 - p] if right else [1 - p, p] for p in found]}

    def no_yes(self, body: Any) -> Any:
        """Answer as SGLang's `/v1/score` on two labels: in their own order."""
        return {"scores": [row[::-1] for row in self.sglang_score(body)["scores"]]}

    def generative(self, body: Any) -> Any:
        found = [row[0] for row in self.sglang_score(body)["scores"]]
        return {"data": [{"index": i, "score": p} for i, p in enumerate(found)]}

    def scores_alone(self, body: Any) -> Any:
        pairs = zip(body["queries"], body["documents"], strict=True)
        return {"scores": [self._pairs(query, [document])[0] for query, document in pairs]}

    def tokenize(self, body: Any) -> Any:
        ids = _TOKENIZER.encode(body["prompt"], add_special_tokens=False).ids
        return {"tokens": ids, "count": len(ids), "max_model_len": 2048}

    def _pairs(self, query: str, documents: Sequence[str]) -> list[float]:
        if self.template:
            query = f"{PREFIX}<Instruct>: {DEFAULT_INSTRUCTION}\n<Query>: {query}\n"
            documents = [f"<Document>: {document}{SUFFIX}" for document in documents]
        return [self._read(query + document) for document in documents]

    def _read(self, prompt: Any) -> float:
        ids = _TOKENIZER.encode(prompt).ids if isinstance(prompt, str) else prompt
        text = _TOKENIZER.decode(ids, skip_special_tokens=False)
        self.tokens += len(ids)
        right = re.search("What is.*Beijing|Explain.*attracts", text, re.DOTALL) is not None
        return self.scores(right and "apple" not in text, text.count(PREFIX))


def _scores(right: bool, templates: int) -> float:
    """Return the demo model's scores with the template, without it, and with it twice."""
    pairs = [(0.99994, 0.99995), (0.97, 0.03), (0.1295, 0.1196)]
    return pairs[min(templates, 2)][0 if right else 1]


def unreachable(reason: str = "no connection to http://h") -> RetryableError:
    return RetryableError(reason)


VLLM = {
    "/version": {"version": "0.32.0"},
    "/v1/models": {"data": [{"id": "m", "owned_by": "vllm", "root": "/m", "max_model_len": 2048}]},
}
SGLANG = {
    "/v1/models": {"data": [{"id": "m", "owned_by": "sglang", "max_model_len": 2048}]},
    "/model_info": {"model_path": "/m", "is_generation": True},
}
TEI = {"/info": {"model_id": "m", "max_client_batch_size": 32, "max_input_length": 4096}}
