"""Rows, files and a scorer for the tests of bulk reranking."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen3_reranker import EngineError, Prompt, PromptTooLongError, Scorer, Scores

TOO_LONG = "too long"


def relevance(query: str, text: str) -> float:
    """Return a number in [0, 1] that is different for every pair."""
    return zlib.crc32(f"{query}\0{text}".encode()) / 2**32


def expected(query: str, documents: Sequence[str], top_n: int | None = None) -> list[Any]:
    """Return the hits of a row."""
    scores = [relevance(query, text) if text.strip() else 0.0 for text in documents]
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return [{"index": place, "score": scores[place]} for place in order[:top_n]]


class CrcScorer(Scorer):
    """
    Scores with `relevance`; it can be sent to another process.

    Args:
        seconds: How long each query takes, until there is a file `fast` in `pids`.
        crashes: How many calls for a query with the word "crash" fail.
        pids: A folder in which each process that scores creates a file with its id as the name.
    """

    model = "crc"

    def __init__(self, seconds: float = 0.0, crashes: int = 0, pids: Path | None = None) -> None:
        self.seconds = seconds
        self.crashes = crashes
        self.pids = pids
        self.turn: asyncio.Lock | None = None
        self.calls: list[tuple[str, int]] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if self.pids is not None:
            (self.pids / str(os.getpid())).touch()
        if TOO_LONG in query:
            raise PromptTooLongError("no room for a document")
        if "crash" in query and self.crashes:
            self.crashes -= 1
            raise EngineError("the engine process was killed")
        self.calls.append((query, len(texts)))
        if self.seconds:
            await self.wait()
        return Scores([relevance(query, text) for text in texts], [False] * len(texts))

    async def wait(self) -> None:
        if self.turn is None:
            self.turn = asyncio.Lock()  # not before, so that the scorer can be sent
        async with self.turn:  # queries are scored one after the other
            if self.pids is None or not (self.pids / "fast").exists():
                await asyncio.sleep(self.seconds)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


class DyingScorer(CrcScorer):
    """Scores some queries, and then fails as an engine that does not start."""

    def __init__(self, queries: int) -> None:
        super().__init__()
        self.queries = queries

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if len(self.calls) >= self.queries:
            raise EngineError("the engine did not start")
        return await super().score(query, texts, instruction)


def write_lines(file: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON Lines; bytes are lines as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    return file


def read_rows(output: Path) -> list[dict[str, Any]]:
    """Return all rows of an output, in the order of its parts."""
    parts = sorted((output / "rows").glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_bytes().splitlines()]


def read_bad(output: Path) -> list[dict[str, Any]]:
    """Return the bad rows of an output."""
    return [json.loads(line) for line in (output / "bad.jsonl").read_bytes().splitlines()]
