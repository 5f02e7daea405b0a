"""
The rerank format of Jina and Cohere, which many other servers use with small changes.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false}
    {"results": [{"index": 0, "relevance_score": 0.98}], "usage": {"total_tokens": 93}}

`top_n` is the number of documents, because the best are selected from all requests of a call
together.
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
    Base class for dialects in the format of Jina and Cohere.

    Attributes:
        instruction_field: The name of the field for the instruction; None if there is none.
        extra: Additional fields of every request.
    """

    instruction_field: ClassVar[str | None] = None
    extra: ClassVar[dict[str, Any]] = {"return_documents": False}

    def __init_subclass__(cls) -> None:
        cls.instruction = cls.instruction or cls.instruction_field is not None

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request, with the instruction in `instruction_field` if there is one."""
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
        """Parse the list of results."""
        return scores_by_index(require_list(answer, "results"), count)


class Rerank(RerankDialect):
    """
    Any server with this format, such as LocalAI, OpenRouter, Novita, Nebius and gateways.

    The response may also be a bare list, and `relevance_score` may be named `score`.
    """

    name = "rerank"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank", "/v1/reranks", "/reranking")
    template_modes = ("server", "client")
    cuts_silently = True
    instruction_field = "instruction"
    placeholders = ("{document}",)

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the list of results, or a bare list."""
        results = answer if isinstance(answer, list) else require_list(answer, "results")
        return scores_by_index(results, count, _either)


def _either(item: dict[str, Any]) -> Any:
    scores = [item[key] for key in ("relevance_score", "score") if key in item]
    if not scores:
        raise AnswerError(f"a result has neither relevance_score nor score: {item!r:.200}")
    return scores[0]
