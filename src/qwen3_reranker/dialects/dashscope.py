"""
DashScope (Alibaba Cloud Model Studio), both APIs, as documented in 2026.

The compatible API, whose path has a plural:

    POST /compatible-api/v1/reranks
    {"model": "qwen3-rerank", "query": "q", "documents": ["d", ...], "top_n": 1, "instruct": "..."}
    {"object": "list", "results": [{"index": 0, "relevance_score": 0.98}], "usage": {...}}

The native API:

    POST /api/v1/services/rerank/text-rerank/text-rerank
    {"model": "qwen3-rerank", "input": {"query": "q", "documents": ["d", ...]},
     "parameters": {"top_n": 1, "return_documents": false, "instruct": "..."}}
    {"output": {"results": [{"index": 0, "relevance_score": 0.98}]}, "usage": {"total_tokens": 9}}

The server writes the template. A request may contain 500 documents of 4,000 tokens each, and
120,000 tokens in all.
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.dialects.base import (
    Dialect,
    HttpRequest,
    Limits,
    ScoreRequest,
    require_list,
    scores_by_index,
)
from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["DashScope", "DashScopeNative"]

_LIMITS = Limits(documents=500, tokens=120_000)
# Not all of aliyuncs.com, where users of other services run programs of their own.
_HOSTS = (
    "dashscope.aliyuncs.com",
    "dashscope-intl.aliyuncs.com",
    "dashscope-us.aliyuncs.com",
    "maas.aliyuncs.com",
)


class DashScope(RerankDialect):
    """`/compatible-api/v1/reranks` of DashScope."""

    name = "dashscope"
    kind = "DashScope"
    paths = ("/compatible-api/v1/reranks",)
    instruction_field = "instruct"
    extra = {}  # noqa: RUF012
    limits = _LIMITS
    default_model = "qwen3-rerank"
    hosts = _HOSTS
    key_variables = ("DASHSCOPE_API_KEY",)


class DashScopeNative(Dialect):
    """The native text-rerank API of DashScope."""

    name = "dashscope-native"
    kind = "DashScope"
    paths = ("/api/v1/services/rerank/text-rerank/text-rerank",)
    instruction = True
    limits = _LIMITS
    default_model = "qwen3-rerank"
    hosts = _HOSTS
    key_variables = ("DASHSCOPE_API_KEY",)

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: query and documents below `input`, the rest below `parameters`."""
        parameters: dict[str, Any] = {"top_n": len(request.documents), "return_documents": False}
        if request.instruction is not None:
            parameters["instruct"] = request.instruction
        inputs = {"query": request.query, "documents": list(request.documents)}
        return HttpRequest({"model": request.model, "input": inputs, "parameters": parameters})

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the results below `output`."""
        output = answer.get("output") if isinstance(answer, dict) else None
        return scores_by_index(require_list(output, "results"), count)
