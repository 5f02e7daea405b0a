"""Add up what the calls of a reranker cost."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Self

from qwen3_reranker.scorer import Scorer, Scores
from qwen3_reranker.usage import Stats, Stopwatch, Usage

__all__ = ["Tally"]

_logger = logging.getLogger(__name__)

_NUMBERS = tuple(name for name in Usage.__dataclass_fields__ if name != "endpoints")


class Tally:
    """Add up the usage of a reranker's calls, on the package's event loop."""

    def __init__(self) -> None:
        nothing = Usage()
        self._sums = {name: getattr(nothing, name) for name in _NUMBERS}

    def add(self, usage: Usage) -> None:
        """Add the usage of a call."""
        sums = self._sums
        # Replaced at once, so that another thread sees all numbers of a call or none.
        self._sums = {name: sums[name] + getattr(usage, name) for name in _NUMBERS}

    def stats(self, scorer: Scorer) -> Stats:
        """Return the sums, and what a scorer's servers or engines did. Callable from any thread."""
        return Stats(**self._sums, endpoints=scorer.endpoint_stats(), engines=scorer.engine_stats())

    def call(self, documents: int) -> CountedCall:
        """
        Return a context manager that counts a call.

        Args:
            documents: The number of documents that the caller gave.
        """
        return CountedCall(self, documents)


class CountedCall:
    """
    A call that is counted when the block ends, unless it was canceled.

    Args:
        tally: What to add its usage to.
        documents: The number of documents that the caller gave.

    Attributes:
        usage: What the call cost, when the block has ended.
    """

    __slots__ = ("_documents", "_tally", "_watch", "usage")

    def __init__(self, tally: Tally, documents: int) -> None:
        self._tally = tally
        self._documents = documents
        self.usage = Usage()

    def __enter__(self) -> Self:
        self._watch = Stopwatch()
        return self

    def complete(self, scores: Scores) -> Usage:
        """
        Return what the call cost, at its end.

        Args:
            scores: What the scorer returned. Its usage lacks what only the caller knows.
        """
        passages = scores.passages
        self.usage = replace(
            scores.usage,
            queries=1,
            documents=self._documents,
            passages=sum(passage.count for passage in passages) if passages else 0,
            truncated=sum(scores.truncated),
            seconds=self._watch.lap(),
        )
        return self.usage

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._tally.add(self.usage)
            _logger.debug("scored: %s", self.usage)
        elif issubclass(kind, Exception):  # a cancellation is none
            seconds = self._watch.lap()
            self.usage = Usage(queries=1, failures=1, documents=self._documents, seconds=seconds)
            self._tally.add(self.usage)
