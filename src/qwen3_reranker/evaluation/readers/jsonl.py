"""
Read a JSON Lines file that a team can write by hand: a query with its documents per line.

    {"query": "How do I wait?", "documents": ["os.mkdir ...", "time.sleep ..."], "relevant": [1]}

"documents" holds the texts that the retriever found, best first. Which of them answer the query is
written as "relevant", the list of their positions from 0, or as "grades", the list of one whole
number per document, where 0 is irrelevant. A line has one of the two. It may have an "id", and
other keys are ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.evaluation.readers.lines import DatasetParts, numbered_objects, unusable_line
from qwen3_reranker.model.template import check_unicode

__all__ = ["read_jsonl"]

_EXPECTED = '{"query": TEXT, "documents": [TEXT, ...], "relevant": [POSITION, ...]}'


def read_jsonl(path: Path) -> DatasetParts:
    """
    Read queries with their documents.

    The id of a query is its "id", or else its line number; that of a document is the query's id,
    "#" and the position from 0.

    Args:
        path: The file. A name that ends in .gz is decompressed.

    Raises:
        InputError: The file or a line cannot be used.
    """
    parts = DatasetParts({}, {}, {}, {})
    for number, record in numbered_objects(path, _EXPECTED):
        name = record.get("id", str(number))
        if type(name) is int:
            name = str(name)
        if not isinstance(name, str) or not name or name in parts.queries:
            raise unusable_line(path, number, "an id that is a text and occurs once", name)
        query, documents = record.get("query"), record.get("documents")
        if not isinstance(query, str) or not query.strip():
            raise unusable_line(path, number, 'a "query" that is a text and not blank', query)
        if not isinstance(documents, list) or not all(isinstance(d, str) for d in documents):
            raise unusable_line(path, number, '"documents" that are a list of texts', documents)
        try:
            for text in (name, query, *documents):
                check_unicode("a text", text)
        except InputError as error:
            raise unusable_line(path, number, "Unicode text", str(error)) from None
        ids = [f"{name}#{index}" for index in range(len(documents))]
        parts.queries[name] = query
        parts.documents.update(zip(ids, documents, strict=True))
        grades = _grades(path, number, record, len(documents))
        parts.judgments[name] = dict(zip(ids, grades, strict=True))
        assert parts.candidates is not None
        parts.candidates[name] = ids
    if not parts.queries:
        raise InputError(f"{path}: expected lines of {_EXPECTED}, found none")
    return parts


def _grades(path: Path, number: int, record: dict[str, Any], count: int) -> list[int]:
    """Return the grade of each document, from "relevant" or from "grades"."""
    given = [key for key in ("relevant", "grades") if key in record]
    if len(given) != 1:
        found = " and ".join(given) or f"the keys {', '.join(record)}"
        raise unusable_line(path, number, 'either "relevant" or "grades"', found)
    values = record[given[0]]
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise unusable_line(path, number, f'"{given[0]}" that is a list of whole numbers', values)
    if given == ["grades"]:
        if len(values) != count:
            expected = f'"grades" with one number for each of the {count} documents'
            raise unusable_line(path, number, expected, values)
        return values
    if len(set(values)) != len(values) or not all(0 <= value < count for value in values):
        expected = f'"relevant" with positions from 0 to {count - 1}, each once'
        raise unusable_line(path, number, expected, values)
    return [int(index in values) for index in range(count)]
