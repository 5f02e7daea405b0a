"""JSON Lines, whose rows are written as they were read, with the result as one more key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from qwen3_reranker.bulk.partitions import Range
from qwen3_reranker.bulk.rows import Columns, Row
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.errors import InputError

__all__ = ["JsonLines"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class _Lines:
    """Lines that are not blank, their numbers after the first one, and the rows in them."""

    lines: list[bytes]
    numbers: list[int]
    rows: list[Row | InputError]
    columns: Columns

    def bad_row(self, index: int) -> tuple[int, Any]:
        line = self.lines[index]
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = line.decode(errors="backslashreplace")
        return self.numbers[index], content

    def write(self, file: IO[bytes], results: list[Result]) -> None:
        for line, row, result in zip(self.lines, self.rows, results, strict=True):
            if isinstance(row, Row) and result.error is None:
                # The other keys are kept to the byte: no number or text is written anew.
                added = json.dumps({self.columns.added(row.kind): result.value}).encode()
                file.write(b"%b, %b\n" % (line[:-1].rstrip(), added[1:]))


class JsonLines:
    """JSON Lines in UTF-8: an object per line."""

    def plan(self, file: str, columns: Columns, target: int) -> Iterator[Range]:
        """
        Divide a file into ranges of lines of about `target` bytes.

        Raises:
            InputError: The first row has a column with the name of the result.
        """
        _check_first_row(file, columns)
        first = offset = rows = size = 0
        with Path(file).open("rb") as lines:
            for line in lines:
                rows += 1
                size += len(line)
                if size >= target:
                    yield Range(first, rows, offset, size)
                    first, offset, rows, size = first + rows, offset + size, 0, 0
        if rows:
            yield Range(first, rows, offset, size)

    def load(self, file: str, rows: Range, columns: Columns) -> _Lines:
        """Read a range."""
        with Path(file).open("rb") as source:
            source.seek(rows.offset)
            data = source.read(rows.size)
        if not rows.offset:
            data = data.removeprefix(_BYTE_ORDER_MARK)
        # Not splitlines(), which would also divide at other characters.
        numbered = ((number, line.strip()) for number, line in enumerate(data.split(b"\n")))
        filled = {number: line for number, line in numbered if line}
        lines = [*filled.values()]
        return _Lines(lines, [*filled], [_read(line, columns) for line in lines], columns)


def _check_first_row(file: str, columns: Columns) -> None:
    """Refuse a file whose rows would probably all be refused for the name of the result."""
    with Path(file).open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    try:
        record = json.loads(first.removeprefix(_BYTE_ORDER_MARK))
        kind = columns.kind(record if isinstance(record, dict) else ())
    except (ValueError, RecursionError):
        return  # a bad row says nothing about the others
    try:
        columns.added(kind, record)
    except InputError as error:
        raise InputError(f"{file}: in the first row, {error}") from None


def _read(line: bytes, columns: Columns) -> Row | InputError:
    try:
        return columns.read(json.loads(line.decode()))
    except InputError as error:
        return error
    except UnicodeDecodeError as error:
        return InputError(f"it is not UTF-8 text: {error}")
    except (ValueError, RecursionError) as error:
        return InputError(f"it is not JSON: {error}")
