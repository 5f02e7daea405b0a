"""The files of the input, and their partitions: ranges of rows that are written as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from qwen3_reranker.bulk.rows import Columns, Row
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.errors import InputError

__all__ = ["FileFormat", "InputFile", "Loaded", "Partition", "Range"]


class InputFile(NamedTuple):
    """
    A file of the input, as it was when the run started.

    Attributes:
        name: Its path below the input folder, with "/" between the parts.
        bytes: Its size.
        modified: The time of its last modification, in nanoseconds.
    """

    name: str
    bytes: int
    modified: int

    @classmethod
    def read(cls, folder: Path, name: str) -> InputFile:
        """
        Return a file as it is now.

        Args:
            folder: The input folder.
            name: The path of the file below it.

        Raises:
            OSError: The file does not exist, or the system does not tell.
        """
        status = (folder / name).stat()
        return cls(name, status.st_size, status.st_mtime_ns)


class Range(NamedTuple):
    """
    Consecutive rows of a file.

    Attributes:
        first: The position of the first row, from 0.
        rows: The number of rows.
        offset: The position of the first byte, in formats that are read by bytes.
        size: The number of bytes.
    """

    first: int
    rows: int
    offset: int = 0
    size: int = 0


class Partition(NamedTuple):
    """
    A range of rows of one of the input files.

    Attributes:
        number: The position of the file among the input files, from 0.
        file: The path of the file.
        range: The rows.
    """

    number: int
    file: str
    range: Range

    @property
    def name(self) -> str:
        """The name of the output files of this partition, without a suffix. Names sort as rows."""
        # Wider than any number of files or rows, so that all names have the same length.
        return f"part-{self.number:09d}-{self.range.first:012d}"


class Loaded(Protocol):
    """The rows of a partition in memory."""

    @property
    def rows(self) -> Sequence[Row | InputError]:
        """The rows, or why one cannot be scored."""

    def bad_row(self, index: int) -> tuple[int, Any]:
        """Return the position of a row after the range's first, and its content for a message."""

    def write(self, file: Any, results: list[Result]) -> None:
        """Write the rows that have been scored to a binary file, with their results."""


class FileFormat(Protocol):
    """A format of files."""

    def plan(self, file: str, columns: Columns, target: int) -> Iterator[Range]:
        """
        Divide a file into ranges.

        Args:
            file: The path of the file.
            columns: The columns to read.
            target: The approximate size of a range in bytes.

        Raises:
            InputError: The file cannot be read, or lacks columns.
        """

    def load(self, file: str, rows: Range, columns: Columns) -> Loaded:
        """
        Read a range. If the file has changed since it was planned, the result is undefined.

        Raises:
            InputError: The file cannot be read.
        """
