"""What a user has entered into the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from qwen3_reranker.errors import InputError

__all__ = ["FileContent", "Inputs", "LongDocuments", "Separator"]

Separator = Literal["blank lines", "line breaks"]
"""What separates documents in text."""

LongDocuments = Literal["cut", "passages"]


@dataclass(frozen=True, slots=True)
class FileContent:
    """
    A file with documents.

    Attributes:
        name: The file's name, whose suffix decides how it is read.
        content: The file's text.
    """

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """
    What a user has entered.

    Attributes:
        query: The question or search text.
        instruction: What makes a document a good match; blank for the reranker's own instruction.
        text: The documents as pasted text.
        file: The documents in a file, which replace the pasted ones. None if there is no file.
        separator: What separates the documents in text.
        field: The JSON key or the column that holds the text of a document; blank for the usual
            names.
        top_n: Keep at most this many documents. None keeps all.
        min_score: Keep only documents with at least this P(yes). None keeps all.
        long_documents: How documents are scored that are too long for one prompt.
        model: The name of a model of the page; blank for the first.
        compare: Whether to rank a second time, with the following instruction and model.
        other_instruction: The second instruction; blank for the first one.
        other_model: The second model; blank for the first one.
    """

    query: str = ""
    instruction: str = ""
    text: str = ""
    file: FileContent | None = None
    separator: Separator = "blank lines"
    field: str = ""
    top_n: int | None = None
    min_score: float | None = None
    long_documents: LongDocuments = "cut"
    model: str = ""
    compare: bool = False
    other_instruction: str = ""
    other_model: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from an empty page, in a form that JSON can represent."""
        empty = asdict(Inputs())
        return {name: value for name, value in asdict(self).items() if value != empty[name]}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """
        Return the inputs that `to_dict()` wrote.

        Args:
            data: What it wrote. It may come from a link, so nothing about it is certain.

        Raises:
            InputError: It is something else.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"inputs must be an object, not {type(data).__name__}")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(map(repr, data.keys() - known)):
            raise InputError(f"inputs have no {', '.join(unknown):.200}")
        for name, value in data.items():
            if not _VALID[name](value):
                raise InputError(f"{name}={value!r:.80} cannot be used")
        file = data.get("file")
        return cls(**{**data, "file": None if file is None else FileContent(**file)})


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_file(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and value.keys() == {"name", "content"}
        and all(map(_is_text, value.values()))
    )


def _is_whole(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_number(value: object) -> bool:
    return _is_whole(value) or isinstance(value, float)


_VALID: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        ["query", "instruction", "text", "field", "model", "other_instruction", "other_model"],
        _is_text,
    ),
    "file": _is_file,
    "separator": lambda value: value in get_args(Separator),
    "top_n": _is_whole,
    "min_score": _is_number,
    "long_documents": lambda value: value in get_args(LongDocuments),
    "compare": lambda value: isinstance(value, bool),
}
