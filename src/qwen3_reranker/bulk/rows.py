"""Rows in either form: a query with its documents, or a query-document pair."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwen3_reranker.errors import InputError
from qwen3_reranker.ranking import ScoringJob, validate_query

__all__ = ["Columns", "ResultName", "Row"]

ResultName = Literal["hits", "score"]
"""The column that a row gets: `hits` for a query with documents, `score` for a pair."""


@dataclass(frozen=True, slots=True)
class Row:
    """
    A row that can be scored.

    Attributes:
        query: The query.
        documents: The documents; the only one of a pair.
        result: The column that the row gets.
    """

    query: str
    documents: list[str]
    result: ResultName


@dataclass(frozen=True, slots=True)
class Columns:
    """
    The names of the columns that are read.

    A row that has the column `documents` is a query with documents. Any other row is a pair.

    Attributes:
        query: The column of the query.
        documents: The column of the list of documents.
        text: The column of a pair's document.
    """

    query: str = "query"
    documents: str = "documents"
    text: str = "text"

    def result(self, names: Collection[str]) -> ResultName:
        """
        Return the column that rows with the given columns get.

        Raises:
            InputError: A column is missing, or the result would replace one.
        """
        if self.query not in names:
            raise InputError(f"there is no {self.query!r}, only {_listed(names)}")
        result: ResultName = "hits" if self.documents in names else "score"
        if result == "score" and self.text not in names:
            raise InputError(
                f"there is neither {self.documents!r} nor {self.text!r}, only {_listed(names)}"
            )
        if result in names:
            raise InputError(f"there is a {result!r} already, which the result would replace")
        return result

    def read(self, record: Any) -> Row:
        """
        Return the row that a record contains.

        Args:
            record: The record's values by column name.

        Raises:
            InputError: The record cannot be scored. The message is the reason.
        """
        if not isinstance(record, Mapping):
            raise InputError(f"it is not an object, but a {type(record).__name__}")
        result = self.result(record)
        query = validate_query(record[self.query])
        ScoringJob([query])  # validates that it is Unicode text
        documents = record[self.documents] if result == "hits" else [record[self.text]]
        if not isinstance(documents, list):
            raise InputError(
                f"{self.documents!r} is a {type(documents).__name__}, not a list of strings"
            )
        return Row(query, ScoringJob(documents).documents, result)

    def read_all(self, records: Iterable[Any]) -> list[Row | InputError]:
        """Return the row of each record, or why it cannot be scored."""
        return [self._read_or_error(record) for record in records]

    def _read_or_error(self, record: Any) -> Row | InputError:
        try:
            return self.read(record)
        except InputError as error:
            return error


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "an empty row"
