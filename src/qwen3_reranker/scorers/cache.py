"""Scores that are remembered, in whatever holds keys and values: memory, or a disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from qwen3_reranker.errors import InputError
from qwen3_reranker.prompt import Prompt
from qwen3_reranker.ranking import checked
from qwen3_reranker.scorers.base import Scorer, Scores

__all__ = ["CachedScorer", "ScoreCache"]


@runtime_checkable
class ScoreCache(Protocol):
    """
    What remembers scores: a dict, `cachetools.LRUCache`, `diskcache.Cache`, or the like.

    Keys are str, values (float, bool): the score, and whether the document was cut. It is only used
    on the package's background loop, so it need not be safe for threads.
    """

    def get(self, key: str, /) -> Any:
        """Return what was stored, None where nothing is."""

    def __setitem__(self, key: str, value: tuple[float, bool], /) -> None: ...


class CachedScorer(Scorer):
    """
    Asks another scorer for what the cache does not hold.

    A key is a hash of all that a score depends on: the other scorer's `fingerprint` (the model, its
    settings, `max_length`), the instruction, the query and the text, which make the prompt's ids.

    Args:
        scorer: Computes scores.
        cache: Remembers them.

    Raises:
        InputError: `cache` has no `get`, or cannot be assigned to.
    """

    def __init__(self, scorer: Scorer, cache: ScoreCache) -> None:
        if not isinstance(cache, ScoreCache):
            raise InputError(
                f"cache= is a {type(cache).__name__}: give a dict, cachetools.LRUCache, "
                "diskcache.Cache or the like"
            )
        self._scorer = scorer
        self._cache = cache

    @property
    def model(self) -> str:  # type: ignore[override]
        """The other scorer's."""
        return self._scorer.model

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        fixed = [await self._scorer.fingerprint(), instruction, query]
        keys = [_hash([*fixed, text]) for text in texts]
        known = {key: found for key in keys if (found := self._cache.get(key)) is not None}
        missing = [place for place, key in enumerate(keys) if key not in known]
        if missing:
            scores = await self._scorer.score(query, [texts[i] for i in missing], instruction)
            values = checked(scores.values, len(missing))
            rows = zip(missing, values, scores.truncated, strict=True)
            for place, value, cut in rows:
                self._cache[keys[place]] = known[keys[place]] = (value, cut)
        return Scores([known[key][0] for key in keys], [known[key][1] for key in keys])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return self._scorer.prompt(query, document, instruction)

    async def fingerprint(self) -> str:
        return await self._scorer.fingerprint()

    async def describe(self) -> str:
        return f"{await self._scorer.describe()}, scores remembered in a {_kind(self._cache)}"

    async def start(self) -> None:
        await self._scorer.start()

    async def aclose(self) -> None:
        await self._scorer.aclose()


def _hash(parts: list[str | None]) -> str:
    # JSON keeps ["a", "bc"] and ["ab", "c"] apart.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _kind(cache: object) -> str:
    return f"{type(cache).__module__}.{type(cache).__qualname__}".removeprefix("builtins.")
