"""Turn scores into a ranking."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from numbers import Real

from qwen3_reranker.errors import InputError, ScoreError, warn_caller
from qwen3_reranker.model.template import check_unicode
from qwen3_reranker.scorer import Passage, Scores
from qwen3_reranker.usage import Usage

__all__ = [
    "Hit",
    "Ranking",
    "ScoringJob",
    "fallback_hits",
    "hits_of",
    "rank",
    "scores_of",
    "validate_instruction",
    "validate_query",
    "validate_scores",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hit:
    """
    A document that was kept, with its score.

    Attributes:
        index: Its position in the caller's list, from 0.
        score: P(yes), the probability in [0, 1] that the document answers the query as the
            instruction asks. NaN if scoring failed and `on_error="keep_order"` was set.
        text: The document, as given, unless it is cut.
        truncated: Whether the document's end was cut off to fit `max_length`. With
            `long_documents="passages"`, whether a passage's end was, which happens only where
            servers have different limits.
        error: Why the document has no score; not empty. None if it has one.
        logit: The log-odds of the score in double precision, which tell documents apart whose
            score is rounded to 0.0 or 1.0. Those of a server that returns probabilities are
            derived from them, and are within ±27.6. -inf for a blank document, NaN without a score.
        passage: The passage that decided the score. None unless `long_documents="passages"`.
        cut: Whether the end of `text` was cut off to fit `token_budget`.
    """

    index: int
    score: float
    text: str
    truncated: bool = False
    error: str | None = None
    logit: float = math.nan
    passage: Passage | None = None
    cut: bool = False


class Ranking(list[Hit]):
    """
    The hits of one query, best first: a list with one more attribute.

    Attributes:
        usage: What the call cost: tokens, documents and seconds.
    """

    def __init__(self, hits: Iterable[Hit] = (), usage: Usage | None = None) -> None:
        super().__init__(hits)
        self.usage = Usage() if usage is None else usage


def validate_query(query: object) -> str:
    """
    Return the query.

    Raises:
        InputError: It is not a str, or it is blank.
    """
    if not isinstance(query, str):
        raise InputError(f"query must be a str, not {type(query).__name__}: {query!r:.80}")
    if not query.strip():
        raise InputError(f"query is blank ({query!r}): there is nothing to compare documents with")
    return query


def validate_instruction(instruction: object) -> None:
    """
    Check an instruction.

    Raises:
        InputError: It is neither None nor a str.
    """
    if instruction is not None and not isinstance(instruction, str):
        raise InputError(f"instruction={instruction!r}: give a str, or None for the default")


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """
    A list of documents, and the texts among them that need a score.

    Args:
        documents: The caller's documents.

    Attributes:
        documents: The same documents, in order.
        texts: The unique, non-blank texts to score, in order of first appearance.
        slots: For each document the position of its text in `texts`. None if it is blank.

    Raises:
        InputError: `documents` is not a list of documents, or a document is not a str, or not
            Unicode text.
    """

    documents: list[str]
    texts: list[str] = field(init=False)
    slots: list[int | None] = field(init=False)

    def __init__(self, documents: Sequence[str]) -> None:
        # A set and the keys of a mapping have no positions that the caller could know.
        refused = isinstance(documents, (str, bytes, Mapping, AbstractSet))
        if refused or not isinstance(documents, Iterable):
            raise InputError(f"documents must be a list of str, not one {type(documents).__name__}")
        texts: dict[str, int] = {}
        slots: list[int | None] = []
        documents = list(documents)
        for index, text in enumerate(documents):
            if not isinstance(text, str):
                raise InputError(
                    f"document {index} is a {type(text).__name__}, not a str: {text!r:.80}"
                )
            check_unicode("document", text, index)
            slots.append(texts.setdefault(text, len(texts)) if text.strip() else None)
        object.__setattr__(self, "documents", documents)
        object.__setattr__(self, "texts", list(texts))
        object.__setattr__(self, "slots", slots)

    def scatter(self, scores: Sequence[float]) -> list[float]:
        """
        Return the score of every document, in order.

        Args:
            scores: P(yes) of each of `texts`, in [0, 1]. Blank documents get 0.0.
        """
        return [0.0 if slot is None else scores[slot] for slot in self.slots]


def validate_scores(scores: Scores, wanted: int) -> Scores:
    """
    Return the scores with their log-odds, all numbers as floats and all flags as bools.

    Args:
        scores: What a scorer returned.
        wanted: The number of texts that it was given.

    Raises:
        ScoreError: One of the lists in `scores` has another length, a score is not a number in
            [0, 1], or the log-odds are not numbers.
    """
    for name in ("values", "truncated", "logits", "passages"):
        items = getattr(scores, name)
        if items is not None and len(items) != wanted:
            raise ScoreError(
                f"asked for the scores of {wanted} documents, got {len(items)} in Scores.{name}"
            )
    for index, score in enumerate(scores.values):
        if not _is_number(score) or not 0 <= score <= 1:
            raise ScoreError(f"score {index} of {wanted} is {score!r}, not a probability in [0, 1]")
    log_odds = scores.log_odds
    if not all(map(_is_number, log_odds)):
        raise ScoreError(f"the log-odds of {wanted} documents are {log_odds!r:.200}")
    return replace(
        scores,
        values=list(map(float, scores.values)),
        truncated=list(map(bool, scores.truncated)),
        logits=list(map(float, log_odds)),
    )


def _is_number(value: object) -> bool:
    # Nearly all are floats, whose type is checked fastest.
    if isinstance(value, bool) or not isinstance(value, (float, Real)):
        return False
    return not math.isnan(value)


def rank(job: ScoringJob, scores: Scores) -> list[Hit]:
    """
    Return the documents by descending score, and by descending log-odds where scores are equal.

    Ties keep the input order, in which the retriever put the better document first. Blank
    documents come last, even after others that scored 0.0.

    Args:
        job: The documents.
        scores: The scores of `job.texts`, one per text.
    """
    logits = scores.log_odds

    def hit(index: int, slot: int | None) -> Hit:
        text = job.documents[index]
        if slot is None:
            return Hit(index, 0.0, text, logit=-math.inf)
        passage = scores.passages[slot] if scores.passages else None
        cut = scores.truncated[slot]
        return Hit(index, scores.values[slot], text, cut, logit=logits[slot], passage=passage)

    hits = [hit(index, slot) for index, slot in enumerate(job.slots)]
    hits.sort(key=lambda hit: (job.slots[hit.index] is None, -hit.score, -hit.logit))
    return hits


def fallback_hits(job: ScoringJob, error: str) -> list[Hit]:
    """Return the documents in the order given, each with the error and no score."""
    return [Hit(index, math.nan, text, error=error) for index, text in enumerate(job.documents)]


def hits_of(job: ScoringJob, scores: Scores | Exception) -> list[Hit]:
    """
    Rank the documents. If scoring failed, issue a warning and keep their order.

    Args:
        job: The documents.
        scores: The scores of `job.texts`, or the error that prevented scoring.
    """
    if isinstance(scores, Scores):
        return rank(job, scores)
    name, count = type(scores).__name__, len(job.documents)
    _logger.warning("scoring failed (%s), so %d documents keep their order", name, count)
    error = str(scores) or name
    warn_caller(f"kept the order of {count} documents, unscored: {error}")
    return fallback_hits(job, error)


def scores_of(job: ScoringJob, scores: Scores | Exception) -> list[float]:
    """
    Return the score of every document, in order.

    Args:
        job: The documents.
        scores: The scores of `job.texts`, or the error that prevented scoring, which is raised.
    """
    if isinstance(scores, Exception):
        raise scores
    return job.scatter(scores.values)
