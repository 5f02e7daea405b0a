"""Parquet, whose rows are written with all their columns and the result as one more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from qwen3_reranker.bulk.partitions import Range
from qwen3_reranker.bulk.rows import Columns, ResultName
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.bulk.tables import read_table, result_array
from qwen3_reranker.errors import InputError

__all__ = ["Parquet"]


@dataclass(frozen=True)
class _Table:
    """Rows as a table of pyarrow."""

    table: Any
    rows: list[Any]
    result: ResultName

    def bad_row(self, index: int) -> tuple[int, Any]:
        return index, self.table.slice(index, 1).to_pylist()[0]

    def write(self, file: IO[bytes], results: list[Result]) -> None:
        scored = self.table.filter(
            pa.array([result.error is None for result in results], pa.bool_())
        )
        values = result_array([row for row in results if row.error is None], self.result)
        pq.write_table(scored.append_column(self.result, values), file)


class Parquet:
    """Parquet files, divided along their row groups, and within them."""

    def plan(self, file: str, columns: Columns, target: int) -> Iterator[Range]:
        """Divide a file into ranges of rows of about `target` bytes before compression."""
        with _open(file) as source:
            columns.result(source.schema_arrow.names)
            first = 0
            for number in range(source.num_row_groups):
                group = source.metadata.row_group(number)
                parts = max(1, group.total_byte_size // target)
                step = max(1, -(-group.num_rows // parts))
                for start in range(0, group.num_rows, step):
                    yield Range(first + start, min(step, group.num_rows - start))
                first += group.num_rows
            if not first:
                yield Range(0, 0)  # so that the output has the columns

    def load(self, file: str, rows: Range, columns: Columns) -> _Table:
        """Read a range."""
        with _open(file) as source:
            result = columns.result(source.schema_arrow.names)
            first, groups, skipped = 0, [], 0
            for number in range(source.num_row_groups):
                size = source.metadata.row_group(number).num_rows
                if first + size <= rows.first:
                    skipped = first + size
                elif first < rows.first + rows.rows:
                    groups.append(number)
                first += size
            table = source.read_row_groups(groups).slice(rows.first - skipped, rows.rows)
        return _Table(table, read_table(table, columns), result)


def _open(file: str) -> Any:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file} cannot be read as Parquet: {error}") from None
