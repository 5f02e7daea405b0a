"""Rerank the documents in a file of any size: in chunks, of which only the best are kept."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Unpack

from qwen3_reranker.document_files import Line
from qwen3_reranker.ranking import Hit
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.selection import Selection, SelectionOptions

__all__ = ["rerank_lines"]

# Documents per chunk: enough to fill an engine's batches, and few enough to hold in memory.
_CHUNK = 1024


def rerank_lines(
    reranker: Reranker,
    query: str,
    lines: Iterable[Line],
    *,
    top_n: int | None = 10,
    instruction: str | None = None,
    min_score: float | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    **options: Unpack[SelectionOptions],
) -> list[Line]:
    """
    Rerank documents, holding only the best ones and one chunk of the file in memory.

    To drop duplicates, all documents are held in memory.

    Args:
        reranker: The reranker that scores them.
        query: The query.
        lines: The documents.
        top_n: The maximum number of documents to return, at least 1; None for all.
        instruction: What makes a document a good match, in one English sentence; None for the
            reranker's own.
        min_score: The lowest P(yes) of a document to return, in [0, 1]; None for any.
        on_progress: Called after each chunk with its number of documents.
        **options: Which documents to return besides, see `SelectionOptions`.

    Returns:
        The best documents, best first; ties keep the file's order. Documents of a chunk that could
        not be scored (with `on_error="keep_order"`) follow those with a score. Blank documents
        come last.

    Raises:
        InputError: An argument is not valid.
        RerankerError: Scoring failed, and the reranker has `on_error="raise"`.
    """
    selection = Selection(top_n=top_n, min_score=min_score, **options)
    if selection.lacks_counter:
        selection = replace(selection, token_counter=reranker.token_counter())
    # A document that is a near-duplicate of a better one must not take its place.
    at_most = top_n if selection.drop_duplicates is False else None
    best: list[Line] = []
    source = iter(lines)
    while chunk := list(islice(source, _CHUNK)):
        hits = reranker.rerank(
            query,
            [line.text for line in chunk],
            instruction=instruction,
            top_n=at_most,
            min_score=min_score,
        )
        best += [
            replace(
                chunk[hit.index],
                score=hit.score,
                truncated=hit.truncated,
                error=hit.error,
                passage=hit.passage,
                logit=hit.logit,
            )
            for hit in hits
        ]
        if at_most is not None:
            best = heapq.nsmallest(at_most, best, key=_rank)
        on_progress(len(chunk))
    best.sort(key=_rank)
    ranked = [Hit(n, line.score, line.text, error=line.error) for n, line in enumerate(best)]
    return [replace(best[hit.index], text=hit.text, cut=hit.cut) for hit in selection.of(ranked)]


def _rank(line: Line) -> tuple[bool, bool, float, float, int]:
    """Return the sort key: scored lines by score, unscored ones, then blank ones; without NaN."""
    unscored = line.error is not None
    score, log_odds = (0.0, 0.0) if unscored else (-line.score, -line.logit)
    return not line.text.strip(), unscored, score, log_odds, line.number
