"""
DeepInfra's inference API, as documented in 2026. The path contains the model's name.

    POST /v1/inference/Qwen/Qwen3-Reranker-8B
    {"queries": ["q", "q"], "documents": ["d", "e"], "instruction": "..."}
    {"scores": [0.98, 0.01], "input_tokens": 93, "request_id": "...", "inference_status": {...}}

The query is repeated for every document, and the scores are in the order of the documents. The
server writes the template.
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.dialects.base import Dialect, HttpRequest, ScoreRequest, number, require_list

__all__ = ["DeepInfra"]


class DeepInfra(Dialect):
    """`/v1/inference` of DeepInfra, which serves Qwen3-Reranker in all three sizes."""

    name = "deepinfra"
    kind = "DeepInfra"
    paths = ("/v1/inference",)
    model_in_path = True
    instruction = True
    default_model = "Qwen/Qwen3-Reranker-8B"
    hosts = ("deepinfra.com",)
    key_variables = ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN", "DEEPINFRA_API_TOKEN")

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: the query once per document, and the model's name in the path."""
        body = {
            "queries": [request.query] * len(request.documents),
            "documents": list(request.documents),
            "instruction": request.instruction,
        }
        return HttpRequest(body, path=f"/v1/inference/{request.model or self.default_model}")

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the list of scores."""
        scores = require_list(answer, "scores", count)
        return [number(score, f"the score of document {i}") for i, score in enumerate(scores)]
