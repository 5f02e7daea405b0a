"""Read documents from text files, JSON, JSON Lines, CSV and TSV."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.template import check_unicode
from qwen3_reranker.scorer import Passage

__all__ = ["Kind", "Line", "detect_kind", "parse_lines", "read_file", "text_fields"]

Kind = Literal["csv", "tsv", "json", "jsonl", "txt"]
"""CSV or TSV with a header, a JSON array, JSON Lines, or plain text with a document per line."""

_FIELDS = ("text", "page_content", "content", "contents", "passage", "document", "body")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_DELIMITERS = ",;\t|"
# The largest field that the csv module accepts; its own limit is 131,072 characters.
_MAX_FIELD = 2**31 - 1
# The first line of a JSON array of objects or strings. A line of text such as "[draft] buy milk"
# does not match.
_ARRAY = re.compile(r"\[\s*($|[\[{\"\]])")
_QUOTING = (
    "a field that begins with a quotation mark, or contains the separator or a line break, needs "
    "quotation marks around it, and those within it doubled"
)


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
            and standard input, by its first line that is not blank. The first line of a CSV file
            names its columns, and decides whether they are separated by commas, semicolons, tabs
            or vertical bars. Those of a TSV file are separated by tabs.
        field: The key in a JSON object or the column of a CSV or TSV file that holds the text. None
            for the first that exists of text, page_content, content, contents, passage, document
            and body, or the only column.

    Yields:
        The documents, in the file's order.

    Raises:
        InputError: The file or a document in it cannot be read; the message names the file and the
            line.
    """
    name = "standard input" if file == "-" else file
    count = 0
    try:
        # 0 is the file descriptor of standard input, which is not to be closed. Line breaks are not
        # translated, because those within the fields of a table belong to the documents.
        source, closefd = (0, False) if file == "-" else (file, True)
        with open(source, encoding="utf-8-sig", newline="", closefd=closefd) as lines:
            head: list[str] = []
            for line in lines:
                head.append(line)
                if line.strip():
                    break
            kind = kind or detect_kind(file, head[-1] if head else "")
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
        field: The key in a JSON object or the column that holds the text; None for the usual
            names, as in `read_file`.
        name: The name of the file in error messages.

    Yields:
        The documents, in the file's order.

    Raises:
        InputError: A document cannot be read; the message contains `name` and the line.
    """
    for number, record, where in _parse_records(lines, kind, name):
        key = field or next((name for name in _FIELDS if name in record), None)
        if key is None and kind in ("csv", "tsv") and len(record) == 1:
            [key] = record
        if key is None or not isinstance(record.get(key), str):
            wanted = repr(field) if field else f"one of {', '.join(_FIELDS)}"
            raise InputError(
                f"{where} has no text under {wanted}; its keys are {sorted(record)}: give field="
            )
        check_unicode(f"{where}: the text", record[key])
        yield Line(number, record[key], record)


def text_fields(lines: Iterable[str], kind: Kind, name: str = "the input") -> list[str]:
    """
    Return the keys or columns of a file's first document that hold text.

    Args:
        lines: The lines of the file.
        kind: The format of the file.
        name: The name of the file in error messages.

    Raises:
        InputError: The first document cannot be read.
    """
    first = next(_parse_records(lines, kind, name), None)
    if first is None:
        return []
    _, record, _ = first
    return [key for key, value in record.items() if isinstance(value, str)]


def detect_kind(file: str, first: str) -> Kind:
    """
    Return the format of a file.

    Args:
        file: Its path or name; "-" for standard input.
        first: Its first line that is not blank.
    """
    suffix, first = Path(file).suffix.lower(), first.strip()
    if suffix == ".csv":
        return "csv"
    if suffix == ".tsv":
        return "tsv"
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


def _load_json(text: str) -> Any:
    """Return the value of a JSON text, without the numbers that only Python can represent."""
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number: give null instead")
    return number


def _parse_array(text: str, name: str) -> list[Any]:
    try:
        records = _load_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name} is not a JSON array: {error}. For JSON Lines give kind='jsonl', for plain "
            "text kind='txt'"
        ) from None
    if not isinstance(records, list):
        raise InputError(f"{name} is not a JSON array, but a {type(records).__name__}")
    return records


def _parse_records(
    lines: Iterable[str], kind: Kind, name: str
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Yield the number of each document, its record, and its place for error messages."""
    if kind == "json":
        for number, value in enumerate(_parse_array("".join(lines), name), 1):
            where = f"{name}, element {number}"
            yield number, _record(value, where), where
        return
    if kind in ("csv", "tsv"):
        yield from _parse_table(lines, kind, name)
        return
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped:
            continue
        where = f"{name}, line {number}"
        if kind == "txt":
            yield number, {"text": stripped}, where
            continue
        try:
            value = _load_json(stripped)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where} is not JSON: {error}. For plain text give kind='txt'"
            ) from None
        yield number, _record(value, where), where


def _record(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise InputError(f"{where} is neither an object nor a string: {value!r:.80}")
    return value


def _parse_table(
    lines: Iterable[str], kind: Kind, name: str
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Yield the records of CSV or TSV, whose first line that is not blank names the columns."""
    csv.field_size_limit(_MAX_FIELD)
    rows = iter(lines)
    skipped = 0
    header = next(rows, "")
    while header and not header.strip():
        header, skipped = next(rows, ""), skipped + 1
    columns: list[str] | None = None
    number = skipped + 1
    try:
        delimiter = "\t" if kind == "tsv" else _delimiter(header)
        reader = csv.reader(chain([header], rows), delimiter=delimiter, strict=True)
        for row in reader:
            where = f"{name}, line {number}"
            if columns is None:
                columns = _columns(row, where)
            elif len(row) > len(columns):
                raise InputError(
                    f"{where} has {len(row)} fields, and the header has {len(columns)}: {_QUOTING}"
                )
            elif row:
                yield number, dict(zip_longest(columns, row)), where
            number = skipped + reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{name}, line {number} is not {kind.upper()}: {error}: {_QUOTING}"
        ) from None


def _columns(header: list[str], where: str) -> list[str]:
    """Return the names of the columns, each of which may occur once unless it is blank."""
    for name, count in Counter(header).items():
        if name.strip() and count > 1:
            raise InputError(f"{where} names {count} columns {name!r}: rename all but one")
    return header


def _delimiter(header: str) -> str:
    """Return the delimiter that divides a header into the most columns."""
    return max(
        _DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter)))
    )
