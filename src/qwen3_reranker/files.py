"""Rerank the documents of a file, however large: they are read in parts, and the best are kept."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from qwen3_reranker.errors import InputError
from qwen3_reranker.ranking import validate_limits
from qwen3_reranker.reranker import Reranker

__all__ = ["Line", "read_lines", "rerank_lines"]

# Enough to keep an engine's batches full, little enough to hold.
_PART = 1024
_FIELDS = ("text", "page_content", "content", "contents", "passage", "document", "body")


@dataclass(frozen=True, slots=True)
class Line:
    """
    One document of a file.

    Attributes:
        number: Its line, from 1.
        text: What is scored.
        record: The line's object; of a text file {"text": ...}.
        score: P(yes) in [0, 1].
        truncated: Whether its end was cut.
    """

    number: int
    text: str
    record: dict[str, Any]
    score: float = 0.0
    truncated: bool = False


def read_lines(
    lines: Iterable[str], kind: Literal["jsonl", "txt"], field: str | None = None
) -> Iterator[Line]:
    """
    Yield the documents of a file.

    Args:
        lines: The file's lines; empty ones are passed over.
        kind: "jsonl": an object, or a string, a line; "txt": a document a line.
        field: The object's key that holds the text; None takes the first there is of text,
            page_content, content, contents, passage, document and body.

    Raises:
        InputError: A line cannot be read; with its number.
    """
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped:
            continue
        if kind == "txt":
            yield Line(number, stripped, {"text": stripped})
            continue
        try:
            record = json.loads(stripped)
        except ValueError as error:
            raise InputError(f"line {number} is not JSON: {error}") from None
        if isinstance(record, str):
            record = {"text": record}
        if not isinstance(record, dict):
            raise InputError(f"line {number} is neither an object nor a string: {stripped:.80}")
        key = field or next((name for name in _FIELDS if name in record), None)
        if key is None or not isinstance(record.get(key), str):
            wanted = repr(field) if field else f"one of {', '.join(_FIELDS)}"
            raise InputError(
                f"line {number} has no text under {wanted}; its keys are {sorted(record)}: give field="
            )
        yield Line(number, record[key], record)


def rerank_lines(
    reranker: Reranker,
    query: str,
    lines: Iterable[Line],
    *,
    top_n: int | None = 10,
    instruction: str | None = None,
    min_score: float | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Line]:
    """
    Return the best lines, best first; ties keep the file's order.

    Holds `top_n` lines and one part of the file at a time.

    Args:
        reranker: Scores them.
        query: What is asked.
        lines: The documents.
        top_n: Keep so many at most; None keeps all.
        instruction: What makes a document a good one; None takes the reranker's own.
        min_score: Keep those with at least this P(yes).
        on_progress: Called with the number of lines that were scored since the last call.

    Raises:
        InputError: As `Reranker.rerank`.
    """
    validate_limits(top_n, min_score)
    best: list[Line] = []
    source = iter(lines)
    while part := list(islice(source, _PART)):
        hits = reranker.rerank(
            query,
            [line.text for line in part],
            instruction=instruction,
            top_n=top_n,
            min_score=min_score,
        )
        for hit in hits:
            line = part[hit.index]
            best.append(Line(line.number, line.text, line.record, hit.score, hit.truncated))
        if top_n is not None:
            best = heapq.nsmallest(top_n, best, key=_order)
        on_progress(len(part))
    return sorted(best, key=_order)


def _order(line: Line) -> tuple[bool, float, int]:
    # Blank ones last, as everywhere.
    return not line.text.strip(), -line.score, line.number
