"""
Infinity's `/rerank`, read in 0.0.77.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false,
     "raw_scores": false}
    {"object": "rerank", "results": [{"relevance_score": 0.98, "index": 0}], "usage": {...}}

It writes no template; query and document are sent as the two halves of the prompt. What is too
long it cuts itself, longest text first, and so the suffix: the client's budget comes before that.
"""

from __future__ import annotations

from qwen3_reranker.scorers.dialects.base import Limits
from qwen3_reranker.scorers.dialects.rerank import RerankDialect

__all__ = ["Infinity"]


class Infinity(RerankDialect):
    """`/rerank` of an Infinity server."""

    name = "infinity"
    kind = "Infinity"
    paths = ("/rerank", "/v1/rerank")
    owners = ("client",)
    extra = {"return_documents": False, "raw_scores": False}  # noqa: RUF012
    limits = Limits(documents=2048)
    key_variables = ("INFINITY_API_KEY",)
