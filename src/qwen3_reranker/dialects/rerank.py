"""
The rerank request that Jina and Cohere made common, and those who speak it with small changes.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false}
    {"results": [{"index": 0, "relevance_score": 0.98}], "usage": {"total_tokens": 93}}

Every document's score is asked for (`top_n` is their number), for the best are chosen over all
requests together.
"""

from __future__ import annotations

from typing import Any, ClassVar

from qwen3_reranker.dialects.base import (
    Dialect,
    HttpRequest,
    ScoreRequest,
    require_list,
    scores_by_index,
)
from qwen3_reranker.errors import AnswerError

__all__ = ["Rerank", "RerankDialect"]


class RerankDialect(Dialect):
    """
    What all of this shape share.

    Attributes:
        instruction_field: The name of the instruction in a request, None where there is none.
        extra: Fields that every request carries.
    """

    instruction_field: ClassVar[str | None] = None
    extra: ClassVar[dict[str, Any]] = {"return_documents": False}

    def __init_subclass__(cls) -> None:
        cls.instruction = cls.instruction or cls.instruction_field is not None

    def build(self, request: ScoreRequest) -> HttpRequest:
        body = {
            "model": request.model,
            "query": request.query,
            "documents": list(request.documents),
            "top_n": len(request.documents),
            **self.extra,
        }
        if request.instruction is not None and self.instruction_field:
            body[self.instruction_field] = request.instruction
        return HttpRequest(body)

    def parse(self, answer: Any, count: int) -> list[float]:
        return scores_by_index(require_list(answer, "results"), count)


class Rerank(RerankDialect):
    """
    Any server of this shape: LocalAI, OpenRouter, Novita, Nebius, gateways.

    Reads a bare list too, and `score` for `relevance_score`.
    """

    name = "rerank"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank", "/v1/reranks", "/reranking")
    template_modes = ("server", "client")
    cuts_silently = True
    instruction_field = "instruction"
    placeholders = ("{document}",)

    def parse(self, answer: Any, count: int) -> list[float]:
        found = answer if isinstance(answer, list) else require_list(answer, "results")
        return scores_by_index(found, count, _either)


def _either(item: dict[str, Any]) -> Any:
    found = [item[key] for key in ("relevance_score", "score") if key in item]
    if not found:
        raise AnswerError(f"a result has neither relevance_score nor score: {item!r:.200}")
    return found[0]
