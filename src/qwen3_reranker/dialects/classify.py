"""
The classification format of vLLM and SGLang.

    {"model": "m", "input": [[151644, ...], ...]}
    {"data": [{"index": 0, "probs": [0.98]}], "usage": {"prompt_tokens": 93}}

Every prompt is sent whole. It gets the probability of one label, or those of two, [no, yes].
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.dialects.base import (
    Dialect,
    HttpRequest,
    ScoreRequest,
    number,
    require_list,
    scores_by_index,
)
from qwen3_reranker.errors import AnswerError

__all__ = ["ClassifyDialect"]


class ClassifyDialect(Dialect):
    """Base class for dialects in this format."""

    common = True
    template_modes = ("client",)
    counts = True

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: whole prompts as `input`."""
        return HttpRequest({"model": request.model, "input": request.whole()})

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the probabilities of one label or two for each prompt."""
        return scores_by_index(require_list(answer, "data"), count, _probability)


def _probability(item: Any) -> float:
    """
    Return P(yes) from a result with the probabilities of one label or of two.

    Args:
        item: A result with "probs": [P(yes)] or [P(no), P(yes)].

    Raises:
        AnswerError: There are no such probabilities.
    """
    probabilities = item.get("probs")
    if not isinstance(probabilities, list) or len(probabilities) not in (1, 2):
        raise AnswerError(
            f"a result does not have the probabilities of one or two labels: {item!r:.200}"
        )
    return number(probabilities[-1], "a label's probability")
