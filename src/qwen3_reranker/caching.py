"""Scores that are remembered, in whatever holds keys and values: memory, or a disk."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, runtime_checkable

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.ranking import validate_scores
from qwen3_reranker.scorer import Scorer, Scores, digest, not_cacheable
from qwen3_reranker.version import __version__

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
    Computes with another scorer only those scores that the cache does not hold.

    A key is a digest of everything that a score depends on: this package's version, the other
    scorer's `fingerprint`, the instruction, the query and the text.

    Args:
        scorer: Computes scores.
        cache: Stores them.

    Raises:
        InputError: `cache` has no `get` or does not support item assignment, or `scorer` does not
            override `fingerprint`.
    """

    def __init__(self, scorer: Scorer, cache: ScoreCache) -> None:
        if not isinstance(cache, ScoreCache):
            raise InputError(
                f"cache= is a {type(cache).__name__}: give a dict, cachetools.LRUCache, "
                "diskcache.Cache or the like"
            )
        if type(scorer).fingerprint is Scorer.fingerprint:
            raise not_cacheable(scorer)
        self._scorer = scorer
        self._cache = cache

    @property
    def model(self) -> str:  # type: ignore[override]
        """The other scorer's."""
        return self._scorer.model

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        fingerprint = await self._scorer.fingerprint()
        if fingerprint is None:
            return await self._scorer.score(query, texts, instruction)
        fixed = [__version__, fingerprint, instruction, query]
        keys = [digest([*fixed, text]) for text in texts]
        known = {key: found for key in keys if (found := self._cache.get(key)) is not None}
        missing = [place for place, key in enumerate(keys) if key not in known]
        if missing:
            scores = await self._scorer.score(query, [texts[i] for i in missing], instruction)
            values = validate_scores(scores.values, len(missing))
            found = zip(missing, values, scores.truncated, strict=True)
            new = {keys[place]: (value, cut) for place, value, cut in found}
            # Another server, or one that has changed, may have scored in another way.
            if await self._scorer.fingerprint() == fingerprint:
                for key, score in new.items():
                    self._cache[key] = score
            known |= new
        return Scores([known[key][0] for key in keys], [known[key][1] for key in keys])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return self._scorer.prompt(query, document, instruction)

    async def fingerprint(self) -> str | None:
        return await self._scorer.fingerprint()

    async def describe(self) -> str:
        return f"{await self._scorer.describe()}, scores remembered in a {_kind(self._cache)}"

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:
        await self._scorer.start(on_stage=on_stage)

    def aclose(self) -> Coroutine[Any, Any, None]:
        return self._scorer.aclose()


def _kind(cache: object) -> str:
    return f"{type(cache).__module__}.{type(cache).__qualname__}".removeprefix("builtins.")
