"""Run a job in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from threading import Event, Thread
from typing import Any

from qwen3_reranker.bulk.job import Job
from qwen3_reranker.bulk.partitions import Partition
from qwen3_reranker.bulk.scoring import OnProgress, RowScorer
from qwen3_reranker.reranker import Reranker

__all__ = ["PARTITIONS_PER_ENGINE", "run_here"]

PARTITIONS_PER_ENGINE = 2
"""The partitions that an engine works on at a time, so that it computes while one is written."""


def run_here(
    job: Job, partitions: Sequence[Partition], options: Mapping[str, Any], on_progress: OnProgress
) -> None:
    """
    Run a job with one reranker.

    Args:
        job: What to do.
        partitions: The partitions, in the order in which they are started.
        options: The arguments of the reranker.
        on_progress: Called with the rows and documents that are done, from several threads.

    Raises:
        OSError: A file cannot be read or written.
        RerankerError: Scoring failed. The other partitions are abandoned.
    """
    scorer, stopped = RowScorer(Reranker(**options)), Event()

    def report(rows: int, documents: int) -> None:
        if stopped.is_set():
            raise CancelledError  # in the other threads, whose partitions are abandoned
        on_progress(rows, documents)

    pool = ThreadPoolExecutor(PARTITIONS_PER_ENGINE, "qwen3-reranker-bulk")
    futures = [pool.submit(job.run, scorer, part, report) for part in partitions]
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException as error:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        closing = Thread(target=scorer.close, daemon=True)
        closing.start()  # the calls of the other threads fail now
        if not isinstance(error, KeyboardInterrupt):  # an engine that is starting takes its time
            closing.join()
        raise
    pool.shutdown()
    scorer.close()
