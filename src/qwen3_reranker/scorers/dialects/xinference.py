r"""
Xinference's `/v1/rerank`, read in 1.10.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false,
     "kwargs": "{\"instruction\": \"...\"}"}
    {"id": "...", "results": [{"index": 0, "relevance_score": 0.98, "document": null}],
     "meta": {...}}

The server writes the template; an instruction goes as JSON in a string.
"""

from __future__ import annotations

import json

from qwen3_reranker.scorers.dialects.base import Ask, Call
from qwen3_reranker.scorers.dialects.rerank import RerankDialect

__all__ = ["Xinference"]


class Xinference(RerankDialect):
    """`/v1/rerank` of an Xinference server."""

    name = "xinference"
    kind = "Xinference"
    paths = ("/v1/rerank",)
    instruction = True
    placeholders = ("{document}",)
    key_variables = ("XINFERENCE_API_KEY",)

    def build(self, ask: Ask) -> Call:
        body = super().build(ask).body
        if ask.instruction is not None:
            body["kwargs"] = json.dumps({"instruction": ask.instruction}, ensure_ascii=False)
        return Call(body)
