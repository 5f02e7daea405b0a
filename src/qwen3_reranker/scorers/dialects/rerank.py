"""
The rerank request that Jina and Cohere made common, and those who speak it with small changes.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false}
    {"results": [{"index": 0, "relevance_score": 0.98}], "usage": {"total_tokens": 93}}

Every document's score is asked for (`top_n` is their number), for the best are chosen over all
requests together.
"""

from __future__ import annotations

from typing import Any, ClassVar

from qwen3_reranker.errors import AnswerError
from qwen3_reranker.scorers.dialects.base import Ask, Call, Dialect, placed, rows

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

    def build(self, ask: Ask) -> Call:
        body = {
            "model": ask.model,
            "query": ask.query,
            "documents": list(ask.documents),
            "top_n": len(ask.documents),
            **self.extra,
        }
        if ask.instruction is not None and self.instruction_field:
            body[self.instruction_field] = ask.instruction
        return Call(body)

    def parse(self, answer: Any, count: int) -> list[float]:
        return placed(rows(answer, "results"), count)


class Rerank(RerankDialect):
    """
    Any server of this shape: LocalAI, OpenRouter, Novita, Nebius, gateways.

    Reads a bare list too, and `score` for `relevance_score`.
    """

    name = "rerank"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank", "/v1/reranks", "/reranking")
    owners = ("server", "client")
    cuts_silently = True
    instruction_field = "instruction"
    placeholders = ("{document}",)

    def parse(self, answer: Any, count: int) -> list[float]:
        found = answer if isinstance(answer, list) else rows(answer, "results")
        return placed(found, count, _either)


def _either(item: dict[str, Any]) -> Any:
    found = [item[key] for key in ("relevance_score", "score") if key in item]
    if not found:
        raise AnswerError(f"a result has neither relevance_score nor score: {item!r:.200}")
    return found[0]
