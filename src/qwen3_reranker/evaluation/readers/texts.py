"""Read the texts of queries and documents: JSON Lines as in BEIR, or tab-separated lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.readers.lines import (
    numbered_lines,
    numbered_objects,
    unusable_line,
)
from qwen3_reranker.model.template import check_unicode

__all__ = ["read_documents", "read_queries"]

_TSV = "an id, a tab and a text"
# The names of columns, such as "docid", "title" and "text". They are not a document.
_HEADER = re.compile(
    r"[\w-]*id(\t[\w -]*)*\t(text|query|passage|document|body|contents?)", re.IGNORECASE
)


def read_queries(path: Path) -> dict[str, str]:
    """
    Return the text of each query by its id.

    Args:
        path: A .jsonl file of {"_id": ..., "text": ...} objects, or a .tsv file of ids and texts
            without a header. Either may end in .gz.

    Raises:
        InputError: The file or a line cannot be read, a query is blank, or an id occurs twice.
    """
    texts = _read(path, "query", lambda record: record.get("text"), None)
    for query, (number, text) in texts.items():
        if not text.strip():
            raise unusable_line(path, number, "a query that is not blank", f"query {query!r}")
    return {query: text for query, (_, text) in texts.items()}


def read_documents(path: Path, keep: Collection[str] | None = None) -> dict[str, str]:
    """
    Return the text of each document by its id. A title is put before the text, as BEIR does.

    Args:
        path: A .jsonl file of {"_id": ..., "title": ..., "text": ...} objects, whose title is
            optional, or a .tsv file of ids and texts without a header. Either may end in .gz.
        keep: The ids of the documents to hold in memory. None keeps all.

    Raises:
        InputError: The file or a line cannot be read, or an id occurs twice.
    """
    texts = _read(path, "document", _titled, keep)
    return {document: text for document, (_, text) in texts.items()}


def _titled(record: dict[str, Any]) -> Any:
    title, text = record.get("title") or "", record.get("text")
    if not isinstance(text, str) or not isinstance(title, str):
        return None
    return f"{title} {text}".strip() if title else text


def _read(
    path: Path,
    kind: str,
    text_of: Callable[[dict[str, Any]], Any],
    keep: Collection[str] | None,
) -> dict[str, tuple[int, str]]:
    """Return the line number and the text of each record by its id."""
    found: dict[str, tuple[int, str]] = {}
    seen: set[str] = set()
    for number, name, text in _records(path, kind, text_of):
        if name in seen:
            raise unusable_line(path, number, "an id that occurs once", f"{kind} {name!r} again")
        try:
            check_unicode(f"the id of {kind} {name!r}", name)
            check_unicode(f"{kind} {name!r}", text)
        except InputError as error:
            raise unusable_line(path, number, "Unicode text", str(error)) from None
        seen.add(name)
        if keep is None or name in keep:
            found[name] = number, text
    return found


def _records(
    path: Path, kind: str, text_of: Callable[[dict[str, Any]], Any]
) -> Iterator[tuple[int, str, str]]:
    if ".tsv" in path.suffixes[-2:]:
        for index, (number, line) in enumerate(numbered_lines(path)):
            if index == 0 and _HEADER.fullmatch(line.strip()):
                raise unusable_line(path, number, f"{_TSV}, without a header", line)
            name, tab, text = line.partition("\t")
            if not tab or not name.strip():
                raise unusable_line(path, number, _TSV, line)
            yield number, name.strip(), text
        return
    expected = f'a {kind} as {{"_id": ..., "text": ...}}'
    for number, record in numbered_objects(path, expected):
        given, found = record.get("_id", record.get("id")), text_of(record)
        if type(given) is int:
            given = str(given)
        if not isinstance(given, str) or not given or not isinstance(found, str):
            raise unusable_line(path, number, expected, record)
        yield number, given, found
