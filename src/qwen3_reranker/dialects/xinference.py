r"""
Xinference's `/v1/rerank`, read in 1.10.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false,
     "kwargs": "{\"instruction\": \"...\"}"}
    {"id": "...", "results": [{"index": 0, "relevance_score": 0.98, "document": null}],
     "meta": {...}}

The engine sentence_transformers writes the template and takes an instruction, as JSON in a string
(run in 4.1.0). The engines vllm and llama.cpp write the template with the default instruction, and
answer any other with 500 "Unexpected keyword arguments: {'instruction': ...}". The vllm engine can
be told to leave the template to the client, which then writes any instruction (read in 4.1.0):

    {"kwargs": "{\"enable_qwen3_rerank_template\": false}"}
"""

from __future__ import annotations

import json

from qwen3_reranker.dialects.base import HttpRequest, ScoreRequest
from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["Xinference", "XinferenceVllm"]


class Xinference(RerankDialect):
    """`/v1/rerank` of an Xinference server."""

    name = "xinference"
    kind = "Xinference"
    paths = ("/v1/rerank",)
    instruction = True
    placeholders = ("{document}",)
    cuts_silently = True
    key_variables = ("XINFERENCE_API_KEY",)

    def build(self, request: ScoreRequest) -> HttpRequest:
        body = super().build(request).body
        if request.instruction is not None:
            body["kwargs"] = json.dumps({"instruction": request.instruction}, ensure_ascii=False)
        return HttpRequest(body)


class XinferenceVllm(RerankDialect):
    """`/v1/rerank` of a model that Xinference runs in its vllm engine; by name only."""

    name = "xinference-vllm"
    kind = "Xinference with vLLM"
    paths = ("/v1/rerank",)
    template_modes = ("client",)
    extra = {  # noqa: RUF012
        "return_documents": False,
        "kwargs": json.dumps({"enable_qwen3_rerank_template": False}),
    }
    key_variables = ("XINFERENCE_API_KEY",)
