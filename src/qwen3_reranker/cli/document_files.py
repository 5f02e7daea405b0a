"""Rerank the documents in a file of any size: read it in chunks, and keep the best documents."""

from __future__ import annotations

import heapq
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Unpack

from qwen3_reranker.errors import InputError
from qwen3_reranker.ranking import Hit
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.scorer import Passage
from qwen3_reranker.selection import Selection, SelectionOptions

__all__ = ["Kind", "Line", "parse_lines", "read_file", "rerank_lines"]

Kind = Literal["json", "jsonl", "txt"]
"""A JSON array, JSON Lines, or plain text with one document per line."""

# Documents per chunk: enough to fill an engine's batches, and few enough to hold in memory.
_CHUNK = 1024
_FIELDS = ("text", "page_content", "content", "contents", "passage", "document", "body")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
# The first line of a JSON array of objects or strings. A line of text such as "[draft] buy milk"
# does not match.
_ARRAY = re.compile(r"\[\s*($|[\[{\"\]])")


@dataclass(frozen=True, slots=True)
class Line:
    """
    A document in a file.

    Attributes:
        number: Its line, from 1; in a JSON array its position, from 1.
        text: The text that is scored.
        record: The JSON object that it was read from; `{"text": ...}` for plain text and strings.
        score: P(yes) in [0, 1]; NaN if scoring failed and the reranker has
            `on_error="keep_order"`.
        truncated: Whether its end was cut to fit `max_length`.
        error: Why it has no score; None if it has one.
        passage: The passage that decided the score; None if the document was scored whole.
        cut: Whether the end of `text` was cut off to fit a token budget. `record` stays whole.
        logit: The log-odds of the score, which tell apart scores that are rounded to the same
            number. -inf for a blank document, NaN without a score.
    """

    number: int
    text: str
    record: dict[str, Any]
    score: float = 0.0
    truncated: bool = False
    error: str | None = None
    passage: Passage | None = None
    cut: bool = False
    logit: float = math.nan


def read_file(file: str, kind: Kind | None = None, field: str | None = None) -> Iterator[Line]:
    """
    Yield the documents in a file.

    The file is read while they are consumed; only a JSON array is read completely first.

    Args:
        file: A path, or "-" for standard input. Its encoding must be UTF-8, with or without a byte
            order mark.
        kind: The format of the file. None to decide by its suffix and, for .json, .jsonl, .ndjson
            and standard input, by its first line that is not blank.
        field: The key in a JSON object that holds the text. None for the first that exists of text,
            page_content, content, contents, passage, document and body.

    Yields:
        The documents, in the file's order.

    Raises:
        InputError: The file or a document in it cannot be read; the message names the file and the
            line.
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
    Yield the documents in the lines of a file, without blank lines.

    Args:
        lines: The lines of the file.
        kind: The format of the file.
        field: The key in a JSON object that holds the text; None for the usual keys, as in
            `read_file`.
        name: The name of the file in error messages.

    Yields:
        The documents, in the file's order.

    Raises:
        InputError: A document cannot be read; the message contains `name` and the line.
    """
    if kind == "json":
        for number, record in enumerate(_parse_array("".join(lines), name), 1):
            yield _read_record(record, number, field, f"{name}, element {number}")
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
    **options: Unpack[SelectionOptions],
) -> list[Line]:
    """
    Rerank documents, holding only the best ones and one chunk of the file in memory.

    To drop duplicates, all documents are held in memory.

    Args:
        reranker: The reranker that scores them.
        query: The query.
        lines: The documents.
        top_n: The maximum number of documents to return, at least 1; None for all.
        instruction: What makes a document a good match, in one English sentence; None for the
            reranker's own.
        min_score: The lowest P(yes) of a document to return, in [0, 1]; None for any.
        on_progress: Called after each chunk with its number of documents.
        **options: Which documents to return besides, see `SelectionOptions`.

    Returns:
        The best documents, best first; ties keep the file's order. Documents of a chunk that could
        not be scored (with `on_error="keep_order"`) follow those with a score. Blank documents
        come last.

    Raises:
        InputError: An argument is not valid.
        RerankerError: Scoring failed, and the reranker has `on_error="raise"`.
    """
    selection = Selection(top_n=top_n, min_score=min_score, **options)
    if selection.lacks_counter:
        selection = replace(selection, token_counter=reranker.token_counter())
    # A document that is a near-duplicate of a better one must not take its place.
    at_most = top_n if selection.drop_duplicates is False else None
    best: list[Line] = []
    source = iter(lines)
    while chunk := list(islice(source, _CHUNK)):
        hits = reranker.rerank(
            query,
            [line.text for line in chunk],
            instruction=instruction,
            top_n=at_most,
            min_score=min_score,
        )
        best += [
            replace(
                chunk[hit.index],
                score=hit.score,
                truncated=hit.truncated,
                error=hit.error,
                passage=hit.passage,
                logit=hit.logit,
            )
            for hit in hits
        ]
        if at_most is not None:
            best = heapq.nsmallest(at_most, best, key=_rank)
        on_progress(len(chunk))
    best.sort(key=_rank)
    ranked = [Hit(n, line.score, line.text, error=line.error) for n, line in enumerate(best)]
    return [replace(best[hit.index], text=hit.text, cut=hit.cut) for hit in selection.of(ranked)]


def _rank(line: Line) -> tuple[bool, bool, float, float, int]:
    """Return the sort key: scored lines by score, unscored ones, then blank ones; without NaN."""
    unscored = line.error is not None
    score, log_odds = (0.0, 0.0) if unscored else (-line.score, -line.logit)
    return not line.text.strip(), unscored, score, log_odds, line.number


def _standard_input() -> Any:
    return open(0, encoding="utf-8-sig", closefd=False)  # closed by `with`


def _detect_kind(file: str, first: str) -> Kind:
    """Return the format of a file by its suffix and its first line that is not blank."""
    suffix, first = Path(file).suffix.lower(), first.strip()
    if file != "-" and suffix not in _JSON_SUFFIXES:
        return "txt"
    if _ARRAY.match(first):
        return "json"
    if suffix in _JSON_SUFFIXES or first.startswith("{") or _is_string(first):
        return "jsonl"
    return "txt"


def _is_string(line: str) -> bool:
    """Return whether a line is a JSON string, not text that begins with a quotation mark."""
    try:
        return isinstance(json.loads(line), str)
    except (ValueError, RecursionError):
        return False


def _parse_array(text: str, name: str) -> list[Any]:
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not a JSON array: {error}. For JSON Lines give kind='jsonl', for plain "
            "text kind='txt'"
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
