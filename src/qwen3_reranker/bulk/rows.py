"""Rows in either form: a query with its documents, or a query-document pair."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.template import check_unicode
from qwen3_reranker.ranking import validate_query

__all__ = ["Columns", "ResultKind", "Row"]

ResultKind = Literal["hits", "score"]
"""What a row gets: `hits` if it is a query with documents, `score` if it is a pair."""

# What JSON calls the types of Python.
_JSON_TYPES = {
    "NoneType": "null",
    "bool": "a Boolean",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "an object",
}


@dataclass(frozen=True, slots=True)
class Row:
    """
    A row that can be scored.

    Attributes:
        query: The query.
        documents: The documents; the only one of a pair.
        kind: What the row gets.
    """

    query: str
    documents: list[str]
    kind: ResultKind


@dataclass(frozen=True, slots=True)
class Columns:
    """
    The names of the columns that are read, and of the one that is added.

    A row that has the column `documents` is a query with documents. Any other row is a pair.

    Attributes:
        query: The column of the query.
        documents: The column of the list of documents.
        text: The column of a pair's document.
        result: The column that is added. None is `hits` or `score`, by the kind of row.
    """

    query: str = "query"
    documents: str = "documents"
    text: str = "text"
    result: str | None = None

    @property
    def read_names(self) -> tuple[str, str, str]:
        """The names of the columns that are read if a row has them."""
        return self.query, self.documents, self.text

    def kind(self, names: Collection[str]) -> ResultKind:
        """
        Return what rows with the given columns get.

        Raises:
            InputError: A column is missing.
        """
        if self.query not in names:
            raise InputError(f"there is no {self.query!r}, only {_listed(names)}")
        if self.documents in names:
            return "hits"
        if self.text not in names:
            raise InputError(
                f"there is neither {self.documents!r} nor {self.text!r}, only {_listed(names)}"
            )
        return "score"

    def added(self, kind: ResultKind, names: Collection[str] = ()) -> str:
        """
        Return the name of the column that is added to rows with the given columns.

        Raises:
            InputError: The rows have a column of that name.
        """
        name = kind if self.result is None else self.result
        if name in names:
            raise InputError(
                f"there is a {name!r} already, which the result would replace: give result= "
                "another name"
            )
        return name

    def read(self, record: Any) -> Row:
        """
        Return the row that a record contains.

        Args:
            record: The record's values by column name.

        Raises:
            InputError: The record cannot be scored. The message is the reason.
        """
        if not isinstance(record, Mapping):
            raise InputError(f"it is {_type_of(record)}, not an object")
        kind = self.kind(record)
        self.added(kind, record)
        query = validate_query(_string(f"{self.query!r}", record[self.query]))
        if kind == "score":
            documents = [_string(f"{self.text!r}", record[self.text])]
        else:
            documents = record[self.documents]
            if not isinstance(documents, list):
                raise InputError(
                    f"{self.documents!r} is {_type_of(documents)}, not a list of strings"
                )
            for index, document in enumerate(documents):
                _string(f"document {index}", document)
        return Row(query, documents, kind)

    def read_all(self, records: Iterable[Any]) -> list[Row | InputError]:
        """Return the row of each record, or why it cannot be scored."""
        return [self._read_or_error(record) for record in records]

    def _read_or_error(self, record: Any) -> Row | InputError:
        try:
            return self.read(record)
        except InputError as error:
            return error


def _string(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {_type_of(value)}, not a string")
    check_unicode(what, value)
    return value


def _type_of(value: Any) -> str:
    name = type(value).__name__
    return _JSON_TYPES.get(name, f"of the type {name}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "an empty row"
