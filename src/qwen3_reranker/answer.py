"""What the event loop returns for a query, and the ranking that is made of it."""

from __future__ import annotations

from qwen3_reranker.ranking import Ranking, ScoringJob, hits_of
from qwen3_reranker.scorer import Scores
from qwen3_reranker.selection import Selection

__all__ = ["Answer", "select"]

Answer = tuple[Scores | Exception, Selection]
"""The scores of a job, or the error that prevented scoring; and which hits to keep."""


def select(job: ScoringJob, answer: Answer) -> Ranking:
    """
    Rank the documents, and return the hits to keep. If scoring failed, keep their order.

    Args:
        job: The documents.
        answer: Their scores and the selection.

    Raises:
        ScoreError: There is not exactly one probability per text.
    """
    scores, selection = answer
    hits = hits_of(job, scores)
    return Ranking(selection.of(hits), hits.usage)
