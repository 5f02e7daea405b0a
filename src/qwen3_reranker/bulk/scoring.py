"""Score rows with a reranker: isolate rows that cannot be scored, and survive an engine's crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen3_reranker.bulk.rows import Row
from qwen3_reranker.errors import EngineError, InputError, PromptTooLongError
from qwen3_reranker.ranking import Ranking
from qwen3_reranker.reranker import Reranker

__all__ = ["OnProgress", "Result", "score_rows"]

OnProgress = Callable[[int, int], None]
"""A function that is called with numbers of rows and documents that have been completed."""

# Consecutive pairs with the same query are scored by one call, which is cheaper, and by one request
# to a server.
_PAIRS_PER_CALL = 256


@dataclass(frozen=True, slots=True)
class Result:
    """
    What became of a row.

    Attributes:
        value: The hits as `{"index": ..., "score": ...}`, best first, or the score of a pair.
        error: Why the row cannot be scored. None if it was.
    """

    value: list[dict[str, Any]] | float | None = None
    error: str | None = None


@dataclass(slots=True)
class _Call:
    """The rows that one call scores: a single one, or consecutive pairs with the same query."""

    row: Row
    documents: list[str]
    slots: list[int] = field(default_factory=list)

    def results(self, ranking: Ranking, top_n: int | None) -> list[Result]:
        if self.row.result == "score":
            scores = {hit.index: hit.score for hit in ranking}
            return [Result(scores[index]) for index in range(len(self.slots))]
        return [Result([{"index": hit.index, "score": hit.score} for hit in ranking[:top_n]])]


def score_rows(
    reranker: Reranker,
    rows: Sequence[Row | InputError],
    *,
    top_n: int | None = None,
    on_progress: OnProgress = lambda _rows, _documents: None,
) -> list[Result]:
    """
    Return a result for each row, in order.

    If the engine crashes, it is started again and continues with the row that it had reached.

    Args:
        reranker: Computes the scores. It must have `on_error="raise"`.
        rows: The rows, or why one cannot be scored.
        top_n: Keep at most this many hits per row, at least 1. None keeps all.
        on_progress: Called when rows have been scored.

    Raises:
        EngineError: The engine did not start, or crashed twice at the same row.
        RerankerError: Scoring failed for another reason that is not a row's.
    """
    results = [Result(error=str(row)) if isinstance(row, InputError) else Result() for row in rows]
    calls = list(_calls(rows))
    position, crashed_at = 0, -1
    while position < len(calls):
        try:
            pairs = [(call.row.query, call.documents) for call in calls[position:]]
            for ranking in reranker.rerank_iter(pairs):
                call = calls[position]
                for slot, result in zip(call.slots, call.results(ranking, top_n), strict=True):
                    results[slot] = result
                on_progress(len(call.slots), len(call.documents))
                position += 1
        except PromptTooLongError as error:
            # Raised after the results of the calls before it, so it is about this one.
            for slot in calls[position].slots:
                results[slot] = Result(error=str(error))
            on_progress(len(calls[position].slots), 0)
            position += 1
        except EngineError:
            if position == crashed_at:
                raise
            crashed_at = position
    return results


def _calls(rows: Sequence[Row | InputError]) -> Iterator[_Call]:
    """Group the rows into calls."""
    call: _Call | None = None
    for slot, row in enumerate(rows):
        if isinstance(row, InputError):
            continue
        joins = (
            call is not None
            and row.result == call.row.result == "score"
            and row.query == call.row.query
            and len(call.slots) < _PAIRS_PER_CALL
        )
        if call is None or not joins:
            if call is not None:
                yield call
            call = _Call(row, [])
        call.documents += row.documents
        call.slots.append(slot)
    if call is not None:
        yield call
