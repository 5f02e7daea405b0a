"""What both adapters write into the metadata of the documents and nodes that they return."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any, Literal

from qwen3_reranker.ranking import Hit
from qwen3_reranker.scorer import Passage
from qwen3_reranker.usage import Usage

__all__ = [
    "CUT_KEY",
    "MARKS",
    "RETRIEVAL_RANK_KEY",
    "RETRIEVAL_SCORE_KEY",
    "WRITTEN_KEYS",
    "as_returned",
    "cost_of",
    "marks_of",
    "score_of",
]

CUT_KEY = "rerank_cut"
"""The metadata key of documents whose text was cut to fit `token_budget`."""

ERROR_KEY = "rerank_error"
"""The metadata key of documents that `on_error="keep_order"` returned without a score."""

TRUNCATED_KEY = "rerank_truncated"
"""The metadata key of documents whose end was cut off to fit `max_length`; its value is True."""

PASSAGE_KEY = "rerank_passage"
"""The metadata key of the passage that decided a long document's score."""

MARKS = frozenset({ERROR_KEY, TRUNCATED_KEY, PASSAGE_KEY})
"""
The metadata keys that a call writes, and removes if an earlier call wrote them.

`CUT_KEY` is not among them: a text that an earlier call has cut stays cut.
"""

RETRIEVAL_SCORE_KEY = "retrieval_score"
"""The metadata key of the score that a document had before."""

RETRIEVAL_RANK_KEY = "retrieval_rank"
"""The metadata key of the position that a document had before, from 1."""

WRITTEN_KEYS = MARKS | {CUT_KEY, RETRIEVAL_RANK_KEY, RETRIEVAL_SCORE_KEY}
"""All metadata keys that are written, besides that of the score."""


def score_of(hit: Hit) -> float | None:
    """Return the hit's score, or None if scoring failed."""
    return None if math.isnan(hit.score) else hit.score


def marks_of(hit: Hit) -> dict[str, Any]:
    """Return the metadata that says of a hit what its score does not."""
    marks: dict[str, Any] = {}
    if hit.error is not None:
        marks[ERROR_KEY] = hit.error
    if hit.cut:
        marks[CUT_KEY] = True
    if hit.truncated:
        marks[TRUNCATED_KEY] = True
    if hit.passage is not None:
        marks[PASSAGE_KEY] = asdict(hit.passage)
    return marks


def cost_of(usage: Usage) -> dict[str, Any]:
    """Return what traces and events show of a call's usage."""
    return {"tokens": usage.tokens, "seconds": usage.seconds}


def as_returned(hit: Hit, content: str, returns: Literal["document", "passage"]) -> Hit:
    """
    Return a hit whose text is that of the document or node that an adapter returns.

    The positions of its passage become those in the document's content.

    Args:
        hit: The hit, with the text that was scored.
        content: The document's own content.
        returns: "document" returns the content, and "passage" the best passage of it, unless that
            consists of metadata alone.
    """
    passage = _content_passage(hit, content)
    if returns == "passage" and passage is not None and passage.start < passage.end:
        content = content[passage.start : passage.end]
    return replace(hit, text=content, passage=passage)


def _content_passage(hit: Hit, content: str) -> Passage | None:
    """
    Return the best passage of a hit, by its positions in the document's own content.

    The text that was scored can be longer, because a template or a metadata mode adds metadata. A
    passage is clamped to the content, and is empty if it consists of metadata alone.

    Args:
        hit: The hit, with the text that was scored.
        content: The content, as it is found in that text, except for white space around it.
    """
    if hit.passage is None:
        return None
    # Templates usually put metadata first, which may repeat the content of a short document.
    found = hit.text.rfind(content.strip())
    if found < 0:
        return replace(hit.passage, start=0, end=len(content))
    offset = found - (len(content) - len(content.lstrip()))
    start, end = (
        min(max(position - offset, 0), len(content))
        for position in (hit.passage.start, hit.passage.end)
    )
    return replace(hit.passage, start=start, end=end)
