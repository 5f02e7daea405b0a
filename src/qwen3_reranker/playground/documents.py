"""Read the documents that a user has pasted, or that are in a file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from qwen3_reranker.document_files import Kind, detect_kind, parse_lines, text_fields
from qwen3_reranker.errors import InputError
from qwen3_reranker.playground.inputs import FileContent, Inputs, Separator

__all__ = ["FILE_TYPES", "MAX_DOCUMENTS", "documents_of", "fields_of", "read_upload", "split_text"]

_TEXT_TYPES = (".txt", ".md")
FILE_TYPES = (*_TEXT_TYPES, ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
MAX_DOCUMENTS = 10_000
MAX_FILE = 20 * 2**20
"""The largest file that the page reads, in bytes."""

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
# The arguments that errors of files name, and what the page has instead.
_PAGE_WORDS = (
    (re.compile(r"\bgive field=$"), "choose the key or column with the text, if it has one"),
    (re.compile(r"\bgive kind='(\w+)'"), r"give the file the suffix .\1"),
    (re.compile(r"\bkind='(\w+)'"), r"the suffix .\1"),
)


def split_text(text: str, separator: Separator) -> list[str]:
    """
    Return the documents in a text, without white space around them.

    Args:
        text: The text.
        separator: What separates them.
    """
    text = text.replace("\r\n", "\n")
    parts = _BLANK_LINES.split(text) if separator == "blank lines" else text.split("\n")
    return [part.strip() for part in parts if part.strip()]


def read_upload(path: str) -> FileContent:
    """
    Return the content of a file that was uploaded.

    Raises:
        InputError: It is too large, or no text in UTF-8.
    """
    file = Path(path)
    if file.suffix.lower() not in FILE_TYPES:
        raise InputError(f"{file.name} cannot be read: give a file of {', '.join(FILE_TYPES)}")
    if (size := file.stat().st_size) > MAX_FILE:
        raise InputError(
            f"{file.name} has {size / 2**20:.0f} MiB, and this page reads at most "
            f"{MAX_FILE // 2**20}: use `qwen3-reranker rerank` for large files"
        )
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start}): save it as "
            "UTF-8"
        ) from None
    return FileContent(file.name, content)


def documents_of(inputs: Inputs) -> list[str]:
    """
    Return the documents of a page, in the order given.

    Raises:
        InputError: There are none or too many, or the file cannot be read. The message names
            what the page has, such as the choice of a column.
    """
    file = inputs.file
    if file is None:
        documents = split_text(inputs.text, inputs.separator)
    elif _is_text(file):
        documents = split_text(file.content, inputs.separator)
    else:
        with _page_words():
            lines = parse_lines(_lines(file), _kind(file), inputs.field or None, file.name)
            documents = [line.text for line in islice(lines, MAX_DOCUMENTS + 1)]
    if not documents:
        raise InputError(
            "there are no documents: paste some, or open a file"
            if file is None
            else f"{file.name} has no documents"
        )
    if len(documents) > MAX_DOCUMENTS:
        raise InputError(
            f"there are more than {MAX_DOCUMENTS:,} documents: use the command "
            "`qwen3-reranker rerank` for so many"
        )
    return documents


def fields_of(file: FileContent) -> list[str]:
    """
    Return the keys or columns of a file that hold text; none for plain text.

    Raises:
        InputError: The file cannot be read.
    """
    if _is_text(file):
        return []
    with _page_words():
        return text_fields(_lines(file), _kind(file), file.name)


@contextmanager
def _page_words() -> Iterator[None]:
    """Put what the page has in the place of arguments into the messages of errors."""
    try:
        yield
    except InputError as error:
        message = str(error)
        for pattern, words in _PAGE_WORDS:
            message = pattern.sub(words, message)
        raise InputError(message) from None


def _is_text(file: FileContent) -> bool:
    return Path(file.name).suffix.lower() in _TEXT_TYPES


def _kind(file: FileContent) -> Kind:
    first = next((line for line in _lines(file) if line.strip()), "")
    return detect_kind(file.name, first)


def _lines(file: FileContent) -> Iterator[str]:
    return io.StringIO(file.content)
