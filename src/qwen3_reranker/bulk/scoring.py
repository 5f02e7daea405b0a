"""Score rows with a reranker, and find those that cannot be scored."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from qwen3_reranker.bulk.rows import Row
from qwen3_reranker.bulk.turns import Turns
from qwen3_reranker.errors import (
    SCORING_FAILURES,
    EngineError,
    InputError,
    PromptTooLongError,
    RerankerError,
)
from qwen3_reranker.ranking import Ranking
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.streaming import window

__all__ = ["OnProgress", "Result", "RowScorer"]

_logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""A function that is called with numbers of rows and documents that have been completed."""

# Consecutive pairs with the same query are scored by one call, which is cheaper, and by one request
# to a server.
_PAIRS_PER_CALL = 256


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result of a row.

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
        if self.row.kind == "score":
            scores = {hit.index: hit.score for hit in ranking}
            return [Result(scores[index]) for index in range(len(self.slots))]
        return [Result([{"index": hit.index, "score": hit.score} for hit in ranking[:top_n]])]

    def divided(self) -> list[_Call]:
        """Return a call for each row."""
        if len(self.slots) == 1:
            return [self]
        return [
            _Call(Row(self.row.query, [text], "score"), [text], [slot])
            for text, slot in zip(self.documents, self.slots, strict=True)
        ]


@dataclass
class _Batch:
    """The rows of one call of `RowScorer.score()`: what is done, and what is left."""

    results: list[Result]
    pending: deque[_Call]
    top_n: int | None
    on_progress: OnProgress
    name: Callable[[int], str]

    @property
    def place(self) -> str:
        """The name of the first row that is left."""
        return self.name(self.pending[0].slots[0])

    def pairs(self) -> list[tuple[str, list[str]]]:
        return [(call.row.query, call.documents) for call in self.pending]

    def divide(self) -> None:
        """Let the first call that is left score a single row."""
        self.pending.extendleft(reversed(self.pending.popleft().divided()))

    def record(self, ranking: Ranking) -> None:
        """Record the result of the first call that is left."""
        call = self.pending[0]
        self._finish(call.results(ranking, self.top_n), len(call.documents))

    def reject(self, error: RerankerError) -> None:
        """Record that the rows of the first call that is left cannot be scored."""
        self._finish([Result(error=str(error)) for _ in self.pending[0].slots], 0)

    def _finish(self, results: list[Result], documents: int) -> None:
        slots = self.pending[0].slots
        for slot, result in zip(slots, results, strict=True):
            self.results[slot] = result
        self.on_progress(len(slots), documents)
        self.pending.popleft()


class RowScorer:
    """
    Score rows with one reranker, from any number of threads.

    A row that fails is scored once more by itself: an engine's failure also fails the other rows
    that it was computing. If the row fails again, although another query can be scored before and
    after it, the row is the cause, and the others are scored without it.

    Args:
        reranker: Computes the scores. It must have `on_error="raise"`.
    """

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self._turns = Turns()

    def score(
        self,
        rows: Sequence[Row | InputError],
        *,
        top_n: int | None = None,
        on_progress: OnProgress = lambda _rows, _documents: None,
        name: Callable[[int], str] = lambda slot: f"row {slot + 1} of the batch",
    ) -> list[Result]:
        """
        Return a result for each row, in order.

        Args:
            rows: The rows, or why one cannot be scored.
            top_n: Keep at most this many hits per row, at least 1. None keeps all.
            on_progress: Called when rows have been scored.
            name: Returns the name of the row at a position, for messages.

        Raises:
            RerankerError: Scoring failed for a reason that is not a row's. The message names the
                row that was reached.
        """
        results = [
            Result(error=str(row)) if isinstance(row, InputError) else Result() for row in rows
        ]
        batch = _Batch(results, deque(_calls(rows)), top_n, on_progress, name)
        while batch.pending:
            try:
                with self._turns.together():
                    for ranking in self._reranker.rerank_iter(batch.pairs()):
                        batch.record(ranking)
            except SCORING_FAILURES as error:
                # Raised after the results of the calls before it, so it is about the first one.
                self._examine(batch, error)
        return batch.results

    def close(self) -> None:
        """Release the engine, and shut it down if no other reranker uses it."""
        self._reranker.close()

    def _examine(self, batch: _Batch, error: RerankerError) -> None:
        """Score suspected rows one at a time, until one fails, which is then rejected."""
        if isinstance(error, PromptTooLongError):
            batch.reject(error)
            return
        shared = isinstance(error, EngineError)  # with all rows that the engine was computing
        left = window.WINDOW if shared else len(batch.pending[0].documents)
        with self._turns.alone() if shared else nullcontext():
            self._require_control(batch, error)
            while batch.pending and left > 0:
                batch.divide()
                call = batch.pending[0]
                left -= len(call.documents)
                try:
                    batch.record(self._reranker.rerank(call.row.query, call.documents))
                except PromptTooLongError as refused:
                    batch.reject(refused)
                except SCORING_FAILURES as repeated:
                    self._require_control(batch, repeated)
                    _logger.warning("%s cannot be scored: %s", batch.place, repeated)
                    batch.reject(repeated)
                    return

    def _require_control(self, batch: _Batch, error: RerankerError) -> None:
        """Raise an error unless another query can be scored, because then no row is the cause."""
        control = str(uuid.uuid4())  # never in a cache of scores
        try:
            self._reranker.rerank(control, [control])
        except SCORING_FAILURES:
            error.args = (f"{error} (reached {batch.place})", *error.args[1:])
            raise error from None


def _calls(rows: Sequence[Row | InputError]) -> Iterator[_Call]:
    """Group the rows into calls."""
    call: _Call | None = None
    for slot, row in enumerate(rows):
        if isinstance(row, InputError):
            continue
        joins = (
            call is not None
            and row.kind == call.row.kind == "score"
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
