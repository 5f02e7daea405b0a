"""
Infinity's `/rerank`, read in 0.0.77.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false,
     "raw_scores": false}
    {"object": "rerank", "results": [{"relevance_score": 0.98, "index": 0}], "usage": {...}}

It writes no template, strips white space from both ends of both texts, and joins them as the
tokenizer joins a pair, which for Qwen3's is one behind the other. So the prompt is split behind its
first control token, and ends with the padding token: the model's answer is read at the last token
that is none, which is the template's last newlines. What is too long it cuts itself, and so the
suffix: the client's budget comes before that. Its usage counts characters.
"""

from __future__ import annotations

from dataclasses import replace

from qwen3_reranker.scorers.dialects.base import Ask, Call, Limits
from qwen3_reranker.scorers.dialects.rerank import RerankDialect

__all__ = ["Infinity"]

_START = "<|im_start|>"
_PADDING = "<|endoftext|>"


class Infinity(RerankDialect):
    """`/rerank` of an Infinity server."""

    name = "infinity"
    kind = "Infinity"
    paths = ("/rerank", "/v1/rerank")
    owners = ("client",)
    extra = {"return_documents": False, "raw_scores": False}  # noqa: RUF012
    limits = Limits(documents=2048)
    key_variables = ("INFINITY_API_KEY",)

    def build(self, ask: Ask) -> Call:
        rest = [str(text).removeprefix(_START) + _PADDING for text in ask.whole()]
        return super().build(replace(ask, query=_START, documents=rest))
