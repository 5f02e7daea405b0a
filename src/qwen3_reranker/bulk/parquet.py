"""Parquet, whose rows are written with all their columns and the result as one more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from qwen3_reranker.bulk.partitions import Range
from qwen3_reranker.bulk.rows import Columns, ResultKind
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.bulk.tables import read_record, read_table, result_array, result_column
from qwen3_reranker.errors import InputError

__all__ = ["Parquet"]

# A row group can only be decoded as a whole, again for each range in it. With so many ranges at
# most, this takes about 3 % of the time that a GPU takes to score them.
_RANGES_PER_GROUP = 16


@dataclass(frozen=True)
class _Table:
    """Rows as a table of pyarrow."""

    table: Any
    rows: list[Any]
    kind: ResultKind
    column: str

    def bad_row(self, index: int) -> tuple[int, Any]:
        return index, read_record(self.table.slice(index, 1))

    def write(self, file: IO[bytes], results: list[Result]) -> None:
        scored = self.table.filter(
            pa.array([result.error is None for result in results], pa.bool_())
        )
        values = result_array([row for row in results if row.error is None], self.kind)
        pq.write_table(scored.append_column(self.column, values), file)


class Parquet:
    """Parquet files, divided along their row groups, and within large ones."""

    def plan(self, file: str, columns: Columns, target: int) -> Iterator[Range]:
        """
        Divide a file into ranges of rows of about `target` bytes before compression.

        Small row groups are joined. A large one is divided into at most 16 ranges.
        """
        with _opened(file) as source:
            result_column(source.schema_arrow.names, columns)
            metadata = source.metadata
            groups = [metadata.row_group(number) for number in range(source.num_row_groups)]
            sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        yield from _divide(sizes, target) if any(rows for rows, _ in sizes) else [Range(0, 0)]

    def load(self, file: str, rows: Range, columns: Columns) -> _Table:
        """Read a range."""
        with _opened(file) as source:
            kind, column = result_column(source.schema_arrow.names, columns)
            first, groups, skipped = 0, [], 0
            for number in range(source.num_row_groups):
                size = source.metadata.row_group(number).num_rows
                if first + size <= rows.first:
                    skipped = first + size
                elif first < rows.first + rows.rows:
                    groups.append(number)
                first += size
            table = source.read_row_groups(groups).slice(rows.first - skipped, rows.rows)
        return _Table(table, read_table(table, columns), kind, column)


def _divide(groups: list[tuple[int, int]], target: int) -> Iterator[Range]:
    """Divide row groups, given by their rows and bytes, into ranges."""
    first = rows = size = 0
    for group_rows, group_size in groups:
        if rows and size + group_size > target:
            yield Range(first, rows)
            first, rows, size = first + rows, 0, 0
        if group_size <= target:
            rows, size = rows + group_rows, size + group_size
            continue
        parts = min(group_size // target, _RANGES_PER_GROUP)
        step = -(-group_rows // parts)
        for start in range(0, group_rows, step or 1):
            yield Range(first + start, min(step, group_rows - start))
        first += group_rows
    if rows:
        yield Range(first, rows)


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    """Open a file, whose name is put into the error if it cannot be decoded or used."""
    try:
        with pq.ParquetFile(file) as source:
            yield source
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if getattr(error, "errno", None) is not None:  # of the system, not of pyarrow
            raise
        raise InputError(f"{file} cannot be read as Parquet: {error}") from None
