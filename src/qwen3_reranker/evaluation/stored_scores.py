"""Check that a server still gives the scores that are stored for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from qwen3_reranker.caching import (
    Entry,
    NamedCache,
    ScoreCache,
    cache_name,
    is_entry,
    validate_cache,
)
from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.dataset import Dataset
from qwen3_reranker.reranker import Reranker

__all__ = ["EvaluationCache", "check_stored_scores"]

# The sample: the first queries, because an evaluation that was stopped has scored these, others
# from the whole dataset, and the first candidates of each.
_FIRST_QUERIES = 5
_OTHER_QUERIES = 5
_DOCUMENTS = 3

# Log-odds are compared between these bounds (P(yes) of 0.001 and 0.999), because some servers round
# probabilities.
_BOUND = 7.0
# The mean distance of log-odds from which scores are those of other weights. The demo model in
# bfloat16 is 0.05 from itself in float32, and its earlier checkpoints are 2 and more from it.
_OTHER_WEIGHTS = 0.3


class EvaluationCache(NamedCache):
    """
    The cache of an evaluation, of which stored scores can be compared with newly computed ones.

    Args:
        cache: Stores the scores.

    Raises:
        InputError: `cache` has no `get` or does not support item assignment.
    """

    def __init__(self, cache: ScoreCache) -> None:
        validate_cache(cache)
        self._cache = cache
        self._lock = Lock()
        self._closed = False
        self._comparison: list[tuple[Entry, Entry]] | None = None
        self._withheld: dict[str, Entry] = {}
        self._unstored: dict[str, Entry] = {}

    def get(self, key: str, /) -> Any:
        """Return the value that is stored under a key, or None. Withhold it during a comparison."""
        with self._lock:
            if self._closed:
                return None
            if self._comparison is None and key in self._unstored:
                self._cache[key] = self._unstored.pop(key)
            value = self._cache.get(key)
            if self._comparison is None or not is_entry(value):
                return value
            self._withheld[key] = value
            return None

    def __setitem__(self, key: str, value: Entry, /) -> None:
        """Store a value under a key. During a comparison, compare it, or store it afterward."""
        with self._lock:
            if self._closed:
                return
            if self._comparison is None:
                self._cache[key] = value
            elif key in self._withheld:
                self._comparison.append((self._withheld[key], value))
            else:
                self._unstored[key] = value

    def close(self) -> None:
        """
        Leave the cache alone from now on.

        After an interruption, answers may still arrive on the thread of the event loop.
        """
        with self._lock:
            self._closed = True

    def __str__(self) -> str:
        return cache_name(self._cache)

    @contextmanager
    def comparing(self) -> Iterator[list[tuple[Entry, Entry]]]:
        """
        Within the context, have scores computed although they are stored, and store none.

        What was computed for the first time is stored when it is asked for after the context.

        Yields:
            A list of the scores that were computed again: each as it is stored, and as it is now.
        """
        comparison: list[tuple[Entry, Entry]] = []
        self._comparison = comparison
        try:
            yield comparison
        finally:
            self._comparison = None
            self._withheld.clear()


def check_stored_scores(
    cache: EvaluationCache,
    reranker: Reranker,
    dataset: Dataset,
    candidates: Mapping[str, Sequence[str]],
    *,
    instruction: str | None,
    depth: int | None,
) -> None:
    """
    Compute some of the stored scores of a server again.

    The weights behind a model's name on a server are unknown to the cache, so scores of an earlier
    checkpoint would be used silently.

    Args:
        cache: The reranker's cache.
        reranker: Scores with the server.
        dataset: Has the texts.
        candidates: The document ids of each query, best first.
        instruction: The instruction.
        depth: How many candidates per query are scored. None scores all.

    Raises:
        InputError: The server's scores differ from the stored ones by more than noise.
        RerankerError: Scoring failed.
    """
    queries = list(candidates)
    parts = _OTHER_QUERIES + 1
    others = [queries[len(queries) * n // parts] for n in range(1, parts)]
    # Equal queries are scored once.
    sample = {dataset.queries[query]: query for query in [*queries[:_FIRST_QUERIES], *others]}
    with cache.comparing() as comparison:
        reranker.rerank_many(
            [
                (text, [dataset.documents[name] for name in candidates[query][:depth][:_DOCUMENTS]])
                for text, query in sample.items()
            ],
            instruction=instruction,
        )
    distances = [abs(_log_odds(stored) - _log_odds(computed)) for stored, computed in comparison]
    if not distances or sum(distances) / len(distances) < _OTHER_WEIGHTS:
        return
    (before, *_), (after, *_) = comparison[distances.index(max(distances))]
    raise InputError(
        f"cache={cache} has scores of other weights than {reranker.model} has now: "
        f"{len(comparison)} of them were computed again, and one is {after:.3g} instead of "
        f"{before:.3g}. Use another file for the new weights"
    )


def _log_odds(entry: Entry) -> float:
    _, _, log_odds = entry
    return max(-_BOUND, min(log_odds, _BOUND))
