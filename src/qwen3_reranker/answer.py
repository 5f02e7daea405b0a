"""What the event loop returns for a query, and the ranking that is made of it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from qwen3_reranker.errors import deferred_warnings, warn_caller
from qwen3_reranker.ranking import Ranking, ScoringJob, hits_of
from qwen3_reranker.scorer import Scores
from qwen3_reranker.selection import Selection
from qwen3_reranker.usage import Usage

__all__ = ["Answer", "Selected", "aselect", "select"]


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


class Selected(NamedTuple):
    """
    A ranking that was made where a warning would not have pointed to the caller.

    Attributes:
        ranking: The hits to keep.
        warnings: The messages of the warnings to issue.
    """

    ranking: Ranking
    warnings: list[str]

    def delivered(self) -> Ranking:
        """Issue the warnings, and return the ranking."""
        for message in self.warnings:
            warn_caller(message)
        return self.ranking


def select(job: ScoringJob, answer: Answer) -> Ranking:
    """
    Rank the documents, and return the hits to keep. If scoring failed, keep their order.

    Args:
        job: The documents.
        answer: Their scores, the selection and the usage.
    """
    hits = hits_of(job, answer.scores)
    return Ranking(answer.selection.of(hits), answer.usage)


async def aselect(job: ScoringJob, answer: Answer) -> Selected:
    """
    Rank the documents, and return the hits to keep; the async version of `select()`.

    Texts are compared, and their tokens counted, in a worker thread.

    Args:
        job: The documents.
        answer: Their scores, the selection and the usage.
    """

    def deferred() -> Selected:
        with deferred_warnings() as messages:
            return Selected(select(job, answer), messages)

    return await asyncio.to_thread(deferred) if answer.selection.reads_texts else deferred()
