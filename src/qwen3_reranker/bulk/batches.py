"""The class that reranks batches of Ray Data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.bulk.scoring import RowScorer
from qwen3_reranker.bulk.settings import bulk_options
from qwen3_reranker.errors import InputError
from qwen3_reranker.reranker import Reranker

if TYPE_CHECKING:
    from pyarrow import Table

__all__ = ["BatchReranker"]


class BatchReranker:
    """
    Rerank tables of pyarrow: a callable class for `ray.data.Dataset.map_batches`.

    `rerank_dataset` chooses the resources and passes this class to `map_batches`. Use it directly
    for other arguments, with `batch_format="pyarrow"`. A call is a coroutine, so that Ray Data has
    several batches scored at a time.

    A row is a query with a list of documents, and gets the column `hits`: a list of
    `{"index": ..., "score": ...}`, best first. Or it is a query-document pair, and gets the column
    `score`. Every row also gets the column `error`, which is null unless the row cannot be scored.

    Args:
        model: The model, as for `Reranker`. The engine starts at the first batch.
        base_url: The URL of a server that scores, or a list of them, as for `Reranker`.
        query: The column of the query.
        documents: The column of the list of documents. A table without it has pairs.
        text: The column of a pair's document.
        result: The column of the result. None is `hits` or `score`, by the kind of row.
        top_n: Keep at most this many hits per row, 1 or more. None keeps all.
        **options: Further arguments of `Reranker`, except for `on_error`.

    Raises:
        InputError: An argument cannot be used.

    Example:
        >>> import asyncio
        >>> import pyarrow
        >>> from qwen3_reranker.bulk import BatchReranker
        >>> table = pyarrow.table(
        ...     {
        ...         "query": ["copy a folder"],
        ...         "documents": [["random.shuffle: Shuffle a list.", "shutil.copytree: Copy."]],
        ...     }
        ... )
        >>> rerank = BatchReranker("demo", top_n=1)
        >>> result = asyncio.run(rerank(table))
        >>> [hit["index"] for hit in result["hits"][0].as_py()]
        [1]
        >>> rerank.close()
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        query: str = "query",
        documents: str = "documents",
        text: str = "text",
        result: str | None = None,
        top_n: int | None = None,
        **options: Any,
    ) -> None:
        self._columns = Columns(query, documents, text, result)
        self._top_n = top_n
        self._scorer = RowScorer(Reranker(**bulk_options(model, base_url, options, top_n=top_n)))

    async def __call__(self, table: Table) -> Table:
        """
        Return the table with the columns `hits` or `score`, and `error`.

        Raises:
            InputError: It is not a table of pyarrow, lacks a column that is read or has it
                twice, or has one of the new ones.
            RerankerError: Scoring failed.
        """
        return await asyncio.to_thread(self._rerank, table)

    def close(self) -> None:
        """Release the engine, and shut it down if no other reranker uses it."""
        self._scorer.close()

    def _rerank(self, table: Table) -> Table:
        import pyarrow as pa

        from qwen3_reranker.bulk.tables import read_table, result_array, result_column

        if not isinstance(table, pa.Table):
            raise InputError(
                f"the batch is a {type(table).__name__}: give map_batches batch_format='pyarrow'"
            )
        names = table.column_names
        kind, column = result_column(names, self._columns)
        if "error" in [*names, column]:
            raise InputError("there is an 'error' already, which the reasons would replace")
        rows = read_table(table, self._columns)
        results = self._scorer.score(rows, top_n=self._top_n)
        errors = pa.array([result.error for result in results], pa.string())
        scored = table.append_column(column, result_array(results, kind))
        return scored.append_column("error", errors)
