"""Read rows from tables of pyarrow, and make columns of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from qwen3_reranker.bulk.rows import Columns, ResultKind, Row
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.errors import InputError

__all__ = ["read_record", "read_table", "result_array", "result_column"]

_HITS = pa.list_(pa.struct([("index", pa.int64()), ("score", pa.float64())]))


def result_column(names: Sequence[str], columns: Columns) -> tuple[ResultKind, str]:
    """
    Return what the rows of a table get, and the name of the column for it.

    Args:
        names: The names of the table's columns.
        columns: The columns that are read.

    Raises:
        InputError: A column that is read is missing or occurs twice, or there is a column with the
            name of the result.
    """
    for name in columns.read_names:
        if (count := names.count(name)) > 1:
            raise InputError(f"there are {count} columns {name!r}: rename all but one")
    kind = columns.kind(names)
    return kind, columns.added(kind, names)


def read_table(table: Any, columns: Columns) -> list[Row | InputError]:
    """
    Return the row in each row of a table, or why it cannot be scored.

    Strings are not checked when a Parquet file is read, so one may not be UTF-8.
    """
    wanted = [name for name in table.column_names if name in columns.read_names]
    table = table.select(wanted)
    try:
        return columns.read_all(table.to_pylist())
    except ValueError:  # includes UnicodeDecodeError
        return [_read_row(table.slice(index, 1), columns) for index in range(len(table))]


def read_record(row: Any) -> dict[str, Any]:
    """
    Return the values of a table with one row, by column, for people to read.

    Values that Python cannot represent, such as a timestamp in the year 10000, become text.
    """
    return {name: _readable(row.column(name)[0]) for name in row.column_names}


def result_array(results: Sequence[Result], kind: ResultKind) -> Any:
    """Return the column of results; null for a row that was not scored."""
    values = [result.value for result in results]
    return pa.array(values, _HITS if kind == "hits" else pa.float64())


def _read_row(row: Any, columns: Columns) -> Row | InputError:
    try:
        [result] = columns.read_all(row.to_pylist())
    except UnicodeDecodeError as error:
        return InputError(f"it is not UTF-8 text: {error}")
    except ValueError as error:
        return InputError(f"it cannot be read: {error}")
    return result


def _readable(value: Any) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        pass
    if pa.types.is_list(value.type) or pa.types.is_large_list(value.type):
        return [_readable(item) for item in value]
    if isinstance(value, pa.StringScalar):  # LargeStringScalar, too
        return value.as_buffer().to_pybytes().decode(errors="backslashreplace")
    try:
        return value.cast(pa.string()).as_py()
    except (ValueError, NotImplementedError):
        return f"a value of the type {value.type}"
