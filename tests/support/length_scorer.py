"""A scorer for the tests of streams, whose queries wait, fail or are scored when a test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from qwen3_reranker import EngineError, Prompt, Scorer, Scores

Pair = tuple[str, list[str]]


class LengthScorer(Scorer):
    """
    Scores a text by its length.

    A query that begins with "wait" is not scored until told; one that begins with "fail" fails once
    a "wait" is in progress; and "after 3" is scored once three queries have begun, itself included.
    """

    model = "length"

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.go_on = threading.Event()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.begun.append(query)
        try:
            while query.startswith("wait") and not self.go_on.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.append(query)
            raise
        if query.startswith("fail"):
            while not any(other.startswith("wait") for other in self.begun):
                await asyncio.sleep(0.001)
            raise EngineError(query)
        while query.startswith("after") and len(self.begun) < int(query.split()[1]):
            await asyncio.sleep(0.001)
        for _ in range(1 + hash(query) % 5):
            await asyncio.sleep(0)
        self.ended.append(query)
        return Scores([len(text) / 100 for text in texts], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


async def taken(stream: Any) -> list[Any]:
    """Return all that a stream yields, sync or async."""
    if isinstance(stream, AsyncIterator):
        return [hits async for hits in stream]
    return list(stream)
