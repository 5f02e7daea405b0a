"""
The `/rerank` of Text Embeddings Inference (TEI), version 1.8.

    {"query": "q", "texts": ["d", ...], "truncate": false, "raw_scores": false}
    [{"index": 0, "score": 0.98}]

The server writes no template. It joins query and text as the tokenizer joins a pair, which for
Qwen3 is concatenation, so they are sent as the two parts of the prompt. By default
it accepts 32 texts per request, and answers 413 to more. Version 1.8 has no Qwen3 classifier; this
dialect is for servers that have one.
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
        """Build the request: documents as `texts`, and no truncation by the server."""
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
        """Parse the bare list of results."""
        if not isinstance(answer, list):
            raise AnswerError(f"the answer is not a list: {answer!r:.200}")
        return scores_by_index(answer, count, "score")
