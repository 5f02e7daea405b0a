"""Cache scores in any store of keys and values, in memory or on disk."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeGuard, runtime_checkable

from qwen3_reranker.errors import InputError, RerankerWarning
from qwen3_reranker.ranking import validate_scores
from qwen3_reranker.scorer import DelegatingScorer, Scorer, Scores, digest, not_cacheable
from qwen3_reranker.usage import Stopwatch, Usage
from qwen3_reranker.version import __version__

__all__ = [
    "CachedScorer",
    "Entry",
    "NamedCache",
    "ScoreCache",
    "cache_name",
    "is_entry",
    "validate_cache",
]

_logger = logging.getLogger(__name__)

Entry = tuple[float, bool, float]
"""What is stored: the score, whether the document was truncated, and the log-odds."""


@runtime_checkable
class ScoreCache(Protocol):
    """
    A store for scores: a dict, `cachetools.LRUCache`, `diskcache.Cache`, or a similar object.

    Keys are strings. Values are tuples of a float, a bool and a float: the score, whether the
    document was truncated, and the log-odds. The store is used only on the thread of the package's
    event loop, so it need not be thread-safe.
    """

    def get(self, key: str, /) -> Any:
        """Return the value that is stored under a key, or None."""

    def __setitem__(self, key: str, value: Entry, /) -> None:
        """Store a value under a key."""


class NamedCache:
    """A cache whose `str()` is what messages call it, such as the path of its file."""


class CachedScorer(DelegatingScorer):
    """
    Look scores up in a cache, and compute only the missing ones with another scorer.

    A key is a digest of everything that a score depends on: the version of this package, the other
    scorer's `fingerprint()`, the instruction, the query and the text.

    A cache that fails, such as one on a full disk, costs no answer: scores that cannot be read are
    computed, those that cannot be stored are returned all the same, and the first failure to read
    and the first to store are reported with a `RerankerWarning`. What is stored under a key but is
    not a score is computed again. If the fingerprint changes during a call, as when an engine
    starts again with other weights, the call does not use the cache.

    Args:
        scorer: Computes the scores.
        cache: Stores the scores.

    Raises:
        InputError: `cache` has no `get` or does not support item assignment, or `scorer` does not
            override `fingerprint()`.
    """

    def __init__(self, scorer: Scorer, cache: ScoreCache) -> None:
        validate_cache(cache)
        if type(scorer).fingerprint is Scorer.fingerprint:
            raise not_cacheable(scorer)
        super().__init__(scorer)
        self._cache = cache
        self._reported: set[str] = set()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of each text, from the cache as far as possible.

        Args:
            query: The question or search text.
            texts: The texts to score.
            instruction: None stands for the default instruction.

        Returns:
            The scores in [0, 1], in the order of the texts, and which texts were truncated.

        Raises:
            ScoreError: The other scorer did not return one probability per text.
        """
        watch = Stopwatch()
        fingerprint = await self._scorer.fingerprint()
        waited = Usage(waiting_seconds=watch.lap())
        if fingerprint is None:
            return await self._scorer.score(query, texts, instruction)
        fixed = [__version__, fingerprint, instruction, query]
        keys = [digest([*fixed, text]) for text in texts]
        known = {key: found for key in keys if (found := self._read(key)) is not None}
        missing = [index for index, key in enumerate(keys) if key not in known]
        usage = waited + Usage(cached=len(keys) - len(missing))
        if missing:
            scores = await self._scorer.score(query, [texts[i] for i in missing], instruction)
            if await self._scorer.fingerprint() != fingerprint:
                # It is unknown which fingerprint these scores belong to, so they are not stored,
                # and not combined with those of the cache.
                if known:
                    waited += scores.usage
                    scores = await self._scorer.score(query, texts, instruction)
                return replace(scores, usage=waited + scores.usage)
            scores = validate_scores(scores, len(missing))
            computed = zip(scores.values, scores.truncated, scores.log_odds, strict=True)
            for index, entry in zip(missing, computed, strict=True):
                known[keys[index]] = entry
                self._store(keys[index], entry)
            usage += scores.usage
        entries = [known[key] for key in keys]
        return Scores(
            [score for score, _, _ in entries],
            [truncated for _, truncated, _ in entries],
            [log_odds for _, _, log_odds in entries],
            usage=usage,
        )

    async def fingerprint(self) -> str | None:
        """Return the other scorer's fingerprint."""
        return await self._scorer.fingerprint()

    async def describe(self) -> str:
        """Describe the other scorer and the cache, for people to read."""
        return f"{await self._scorer.describe()}, scores cached in a {_kind(self._cache)}"

    def _read(self, key: str) -> Entry | None:
        """Return what is stored under a key; None if it is not a score, or cannot be read."""
        try:
            found = self._cache.get(key)
        except Exception as error:  # noqa: BLE001  # whatever the user's store raises
            self._report("be read", "computed", error)
            return None
        return found if is_entry(found) else None

    def _store(self, key: str, entry: Entry) -> None:
        try:
            self._cache[key] = entry
        except Exception as error:  # noqa: BLE001  # whatever the user's store raises
            self._report("be written", "not stored", error)

    def _report(self, what: str, instead: str, error: Exception) -> None:
        """Issue a `RerankerWarning` the first time that the cache fails in a way."""
        reason = f"{type(error).__name__}: {error}"
        message = f"cache={cache_name(self._cache)} cannot {what} ({reason}): scores are {instead}"
        _logger.debug("%s", message)
        if what not in self._reported:
            self._reported.add(what)
            warnings.warn(message, RerankerWarning, stacklevel=2)


def validate_cache(cache: object) -> None:
    """
    Check that an object can store scores.

    Raises:
        InputError: It has no `get` or does not support item assignment.
    """
    if not isinstance(cache, ScoreCache):
        raise InputError(
            f"cache= is a {type(cache).__name__}: give a dict, cachetools.LRUCache, "
            "diskcache.Cache or the like"
        )


def is_entry(found: object) -> TypeGuard[Entry]:
    """Return whether a stored value is a score: a store on disk may hold anything."""
    match found:
        case (float(score), bool(), float(log_odds)):
            return 0 <= score <= 1 and not math.isnan(log_odds)
    return False


def cache_name(cache: object) -> str:
    """Return what messages call a cache: its own name if it is a `NamedCache`, or its class."""
    return str(cache) if isinstance(cache, NamedCache) else _kind(cache)


def _kind(cache: object) -> str:
    """Return the name of a cache's class, with its module."""
    return f"{type(cache).__module__}.{type(cache).__qualname__}".removeprefix("builtins.")
