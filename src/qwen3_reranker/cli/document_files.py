"""Rerank the documents of a file of any size: it is read in parts, and the best are kept."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from qwen3_reranker.errors import InputError
from qwen3_reranker.ranking import validate_limits
from qwen3_reranker.reranker import Reranker

__all__ = ["Kind", "Line", "parse_lines", "read_file", "rerank_lines"]

Kind = Literal["json", "jsonl", "txt"]
"""A JSON array, JSON Lines, or plain text with one document per line."""

# Enough to keep an engine's batches full, little enough to hold in memory.
_PART = 1024
_FIELDS = ("text", "page_content", "content", "contents", "passage", "document", "body")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
# The first line of an array of objects or strings, as a program or a person writes it. A line of
# text such as "[draft] buy milk" is none.
_ARRAY = re.compile(r"\[\s*($|[\[{\"\]])")


@dataclass(frozen=True, slots=True)
class Line:
    """
    One document of a file.

    Attributes:
        number: Its line, from 1; in a JSON array its place, from 1.
        text: What is scored.
        record: The JSON object it was read from; for plain text and strings `{"text": ...}`.
        score: P(yes) in [0, 1]; NaN where scoring failed and the reranker has
            `on_error="keep_order"`.
        truncated: Whether its end was cut to fit `max_length`.
        error: Why it has no score; None where it has one.
    """

    number: int
    text: str
    record: dict[str, Any]
    score: float = 0.0
    truncated: bool = False
    error: str | None = None


def read_file(file: str, kind: Kind | None = None, field: str | None = None) -> Iterator[Line]:
    """
    Yield the documents of a file, reading it as they are taken; only a JSON array is read whole.

    Args:
        file: A path, or "-" for standard input. UTF-8, with or without a byte order mark.
        kind: What the file holds. None decides by the suffix and, for .json, .jsonl, .ndjson and
            standard input, by the first line that is not blank.
        field: The key of a JSON object that holds the text; None takes the first there is of
            text, page_content, content, contents, passage, document and body.

    Raises:
        InputError: The file cannot be read, or a document in it; with the file's name and line.
    """
    name = "standard input" if file == "-" else file
    count = 0
    try:
        with Path(file).open(encoding="utf-8-sig") if file != "-" else _standard_input() as lines:
            head: list[str] = []
            for line in lines:
                head.append(line)
                if line.strip():
                    break
            kind = kind or _detect_kind(file, head[-1] if head else "")
            for document in parse_lines(chain(head, lines), kind, field, name):
                count = document.number
                yield document
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text, after line {count}: {error}") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from None


def parse_lines(
    lines: Iterable[str], kind: Kind, field: str | None = None, name: str = "the input"
) -> Iterator[Line]:
    """
    Yield the documents in the lines of a file; blank lines are skipped.

    Args:
        lines: The file's lines.
        kind: What they hold.
        field: As in `read_file`.
        name: What error messages call the file.

    Raises:
        InputError: A document cannot be read; with `name` and its line.
    """
    if kind == "json":
        for place, record in enumerate(_parse_array("".join(lines), name), 1):
            yield _read_record(record, place, field, f"{name}, element {place}")
        return
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped:
            continue
        if kind == "txt":
            yield Line(number, stripped, {"text": stripped})
            continue
        where = f"{name}, line {number}"
        try:
            record = json.loads(stripped)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where} is not JSON: {error}. For plain text give kind='txt'"
            ) from None
        yield _read_record(record, number, field, where)


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

    Holds `top_n` lines and one part of the file at a time. Where the reranker has
    `on_error="keep_order"`, the lines of a part that could not be scored follow those that have
    a score, in the file's order. Blank lines come last.

    Args:
        reranker: Scores them.
        query: The query.
        lines: The documents.
        top_n: Keep at most this many; None keeps all.
        instruction: What makes a document a good one; None takes the reranker's own.
        min_score: Keep those with at least this P(yes), in [0, 1]; None keeps all.
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
            best.append(
                Line(line.number, line.text, line.record, hit.score, hit.truncated, hit.error)
            )
        if top_n is not None:
            best = heapq.nsmallest(top_n, best, key=_rank)
        on_progress(len(part))
    return sorted(best, key=_rank)


def _rank(line: Line) -> tuple[bool, bool, float, int]:
    """Return the sort key: NaN has no order, so a line without a score has none in its key."""
    unscored = line.error is not None
    return not line.text.strip(), unscored, 0.0 if unscored else -line.score, line.number


def _standard_input() -> Any:
    return open(0, encoding="utf-8-sig", closefd=False)  # closed by `with`


def _detect_kind(file: str, first: str) -> Kind:
    """Return what a file holds, by its suffix and its first line that is not blank."""
    suffix, first = Path(file).suffix.lower(), first.strip()
    if file != "-" and suffix not in _JSON_SUFFIXES:
        return "txt"
    if _ARRAY.match(first):
        return "json"
    if suffix in _JSON_SUFFIXES or first.startswith("{") or _is_string(first):
        return "jsonl"
    return "txt"


def _is_string(line: str) -> bool:
    """Return whether a line is a JSON string, rather than text that begins with a quote."""
    try:
        return isinstance(json.loads(line), str)
    except (ValueError, RecursionError):
        return False


def _parse_array(text: str, name: str) -> list[Any]:
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not a JSON array: {error}. For JSON Lines give kind='jsonl', for plain text "
            "kind='txt'"
        ) from None
    if not isinstance(records, list):
        raise InputError(f"{name} is not a JSON array, but a {type(records).__name__}")
    return records


def _read_record(record: Any, number: int, field: str | None, where: str) -> Line:
    if isinstance(record, str):
        record = {"text": record}
    if not isinstance(record, dict):
        raise InputError(f"{where} is neither an object nor a string: {record!r:.80}")
    key = field or next((name for name in _FIELDS if name in record), None)
    if key is None or not isinstance(record.get(key), str):
        wanted = repr(field) if field else f"one of {', '.join(_FIELDS)}"
        raise InputError(
            f"{where} has no text under {wanted}; its keys are {sorted(record)}: give field="
        )
    return Line(number, record[key], record)
