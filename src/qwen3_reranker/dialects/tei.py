"""
Text Embeddings Inference's `/rerank`, read in 1.8.

    {"query": "q", "texts": ["d", ...], "truncate": false, "raw_scores": false}
    [{"index": 0, "score": 0.98}]

It writes no template, and joins query and text as the tokenizer joins a pair, which for Qwen3's
is one behind the other; so they are sent as the two halves of the prompt. 32 texts a request
unless started otherwise; more is a 413. It had no Qwen3 classifier when this was written: this
serves those that have one.
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.dialects.base import Dialect, HttpRequest, Limits, ScoreRequest, scores_by_index
from qwen3_reranker.errors import AnswerError

__all__ = ["Tei"]


class Tei(Dialect):
    """`/rerank` of a Text Embeddings Inference server."""

    name = "tei"
    kind = "TEI"
    common = True
    paths = ("/rerank",)
    template_modes = ("client", "server")
    limits = Limits(documents=32, size=2 * 10**6)

    def build(self, request: ScoreRequest) -> HttpRequest:
        return HttpRequest(
            {
                "query": request.query,
                "texts": list(request.documents),
                "truncate": False,
                "raw_scores": False,
                "return_text": False,
            }
        )

    def parse(self, answer: Any, count: int) -> list[float]:
        if not isinstance(answer, list):
            raise AnswerError(f"the answer is no list: {answer!r:.200}")
        return scores_by_index(answer, count, "score")
