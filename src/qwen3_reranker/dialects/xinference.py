r"""
Xinference's `/v1/rerank`, as in version 1.10.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false,
     "kwargs": "{\"instruction\": \"...\"}"}
    {"id": "...", "results": [{"index": 0, "relevance_score": 0.98, "document": null}],
     "meta": {...}}

The sentence_transformers engine writes the template and accepts an instruction, as JSON in a
string (4.1.0). The vllm and llama.cpp engines write the template with the default instruction, and
answer 500 "Unexpected keyword arguments: {'instruction': ...}" to any other. The vllm engine can be
told to leave the template to the client, which can then write any instruction (4.1.0):

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
        """Build the request, with the instruction as JSON in `kwargs`."""
        body = super().build(request).body
        if request.instruction is not None:
            body["kwargs"] = json.dumps({"instruction": request.instruction}, ensure_ascii=False)
        return HttpRequest(body)


class XinferenceVllm(RerankDialect):
    """`/v1/rerank` of a model in Xinference's vllm engine. It is not detected automatically."""

    name = "xinference-vllm"
    kind = "Xinference with vLLM"
    paths = ("/v1/rerank",)
    template_modes = ("client",)
    extra = {  # noqa: RUF012
        "return_documents": False,
        "kwargs": json.dumps({"enable_qwen3_rerank_template": False}),
    }
    key_variables = ("XINFERENCE_API_KEY",)
