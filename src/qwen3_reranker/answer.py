"""What the event loop returns for a query, and the ranking that is made of it."""

from __future__ import annotations

from typing import NamedTuple

from qwen3_reranker.ranking import Ranking, ScoringJob, hits_of
from qwen3_reranker.scorer import Scores
from qwen3_reranker.selection import Selection
from qwen3_reranker.usage import Usage

__all__ = ["Answer", "select"]


class Answer(NamedTuple):
    """
    What the event loop returns for a query.

    Attributes:
        scores: The scores of a job, or the error that prevented scoring.
        selection: Which hits to keep.
        usage: What the call cost.
    """

    scores: Scores | Exception
    selection: Selection
    usage: Usage


def select(job: ScoringJob, answer: Answer) -> Ranking:
    """
    Rank the documents, and return the hits to keep. If scoring failed, keep their order.

    Args:
        job: The documents.
        answer: Their scores, the selection and the usage.

    Raises:
        ScoreError: There is not exactly one probability per text.
    """
    hits = hits_of(job, answer.scores)
    return Ranking(answer.selection.of(hits), answer.usage)
