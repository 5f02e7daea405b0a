"""What a worker does with a partition, here or on another machine."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_reranker.bulk.input import Input
from qwen3_reranker.bulk.output import Counts, Output
from qwen3_reranker.bulk.partitions import Partition
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.bulk.scoring import OnProgress, RowScorer

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """
    A run over files, as far as a worker needs to know it.

    Attributes:
        input: Where the rows come from.
        output: Where the results go.
        columns: The columns that are read.
        top_n: The maximum number of hits per row. None keeps all.
    """

    input: Input
    output: Output
    columns: Columns
    top_n: int | None

    def run(
        self,
        scorer: RowScorer,
        partition: Partition,
        on_progress: OnProgress = lambda _rows, _documents: None,
    ) -> Counts:
        """
        Read, score and write a partition.

        Args:
            scorer: Computes the scores.
            partition: The partition.
            on_progress: Called with the rows and documents that are done. The rows add up to those
                of the partition.

        Raises:
            InputError: The input has changed.
            OSError: A file cannot be read or written.
            RerankerError: Scoring failed. The message names the row that was reached.
        """
        reported = 0

        def count(rows: int, documents: int) -> None:
            nonlocal reported
            reported += rows
            on_progress(rows, documents)

        loaded = self.input.load(partition, self.columns)

        def name(slot: int) -> str:
            after, _ = loaded.bad_row(slot)
            return f"row {partition.range.first + after + 1} of {partition.file}"

        results = scorer.score(loaded.rows, top_n=self.top_n, on_progress=count, name=name)
        counts = self.output.write(partition, loaded, results)
        on_progress(partition.range.rows - reported, 0)  # bad rows and blank lines
        return counts
