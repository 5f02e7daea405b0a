"""Read rows from tables of pyarrow, and make columns of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from qwen3_reranker.bulk.rows import Columns, ResultName, Row
from qwen3_reranker.bulk.scoring import Result
from qwen3_reranker.errors import InputError

__all__ = ["read_table", "result_array"]

_HITS = pa.list_(pa.struct([("index", pa.int64()), ("score", pa.float64())]))


def read_table(table: Any, columns: Columns) -> list[Row | InputError]:
    """Return the row in each row of a table, or why it cannot be scored."""
    wanted = [name for name in table.column_names if name in _names(columns)]
    return columns.read_all(table.select(wanted).to_pylist())


def result_array(results: Sequence[Result], name: ResultName) -> Any:
    """Return the column of results; null for a row that was not scored."""
    kind = _HITS if name == "hits" else pa.float64()
    return pa.array([result.value for result in results], kind)


def _names(columns: Columns) -> set[str]:
    return {columns.query, columns.documents, columns.text}
