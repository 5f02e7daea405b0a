"""Read text files line by line, and report what is wrong with a line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qwen3_reranker.errors import InputError

__all__ = ["DatasetParts", "numbered_lines", "numbered_objects", "unusable", "unusable_line"]


class DatasetParts(NamedTuple):
    """
    What a dataset consists of, as the readers return it.

    Attributes:
        queries: The text of each query by its id.
        documents: The text of each document by its id.
        judgments: The grade of each judged document, by query id and document id.
        candidates: The ids of each query's candidates, best first. None if there is no run.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    judgments: dict[str, dict[str, int]]
    candidates: dict[str, list[str]] | None = None


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """
    Yield the lines of a file that are not blank, with their numbers from 1.

    Args:
        path: A UTF-8 file, with or without a byte order mark. A name that ends in .gz is
            decompressed.

    Raises:
        InputError: The file cannot be read, or is not UTF-8 text.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                text = _decoded(path, number, line)
                if text.strip():
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {reason}") from None


def numbered_objects(path: Path, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    Yield the objects of a JSON Lines file, with their line numbers from 1.

    Args:
        path: The file.
        expected: What a line must be, for the message.

    Raises:
        InputError: The file cannot be read, or a line is not a JSON object.
    """
    for number, line in numbered_lines(path):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise unusable_line(path, number, expected, line) from None
        if not isinstance(value, dict):
            raise unusable_line(path, number, expected, line)
        yield number, value


def unusable_line(path: Path, number: int, expected: str, found: object) -> InputError:
    """Return the error for a line that is not what was expected."""
    return unusable(f"{path}, line {number}", expected, found)


def unusable(where: str, expected: str, found: object) -> InputError:
    """Return the error for a part of a file that is not what was expected."""
    shown = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=repr)
    shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
    return InputError(f"{where}: expected {expected}, found {shown}")


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise unusable_line(path, number, "UTF-8 text", str(error)) from None
