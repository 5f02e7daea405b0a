"""Rerank the rows of files, in this process or on a Ray cluster, and continue where a run ended."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any

from qwen3_reranker.bulk.cluster import check_options, connected, require_ray, run_on_cluster
from qwen3_reranker.bulk.input import Input
from qwen3_reranker.bulk.job import Job
from qwen3_reranker.bulk.local import run_here
from qwen3_reranker.bulk.output import Output
from qwen3_reranker.bulk.partitions import Partition
from qwen3_reranker.bulk.progress import BulkProgress, Tracker
from qwen3_reranker.bulk.resources import cluster_resources
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.bulk.settings import bulk_options, runs_engine, score_settings
from qwen3_reranker.errors import InputError
from qwen3_reranker.paths import expand_user

__all__ = ["BulkSummary", "rerank_files"]

# A partition is large enough for an engine to be busy most of the time, and small enough for little
# to be repeated. A large input has larger partitions, so that a folder has not too many files.
_SMALLEST_PARTITION = 2 * 2**20
_PARTITIONS = 10_000
# The beginning of a URL, also of one that a path has divided at "//". Windows has drives of one
# letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@dataclass(frozen=True, slots=True)
class BulkSummary:
    """
    What the output of `rerank_files()` contains.

    Attributes:
        rows: The rows of the input, without blank lines.
        documents: The documents that have been scored, in this run and in earlier ones.
        bad_rows: The rows that could not be scored.
        bad_file: The file that has them, with the reasons.
        new_documents: The documents that this run has scored.
        seconds: The duration of this run.
    """

    rows: int
    documents: int
    bad_rows: int
    bad_file: Path
    new_documents: int
    seconds: float


def rerank_files(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    model: str | None = None,
    base_url: str | Sequence[str] | None = None,
    query: str = "query",
    documents: str = "documents",
    text: str = "text",
    result: str | None = None,
    top_n: int | None = None,
    ray: str | None = None,
    concurrency: int | None = None,
    num_gpus: float | None = None,
    on_progress: Callable[[BulkProgress], None] = lambda _: None,
    **options: Any,
) -> BulkSummary:
    """
    Rerank the rows of JSON Lines or Parquet files, and write them with their scores to a folder.

    A row is a query with a list of documents, and gets the column `hits`: a list of
    `{"index": ..., "score": ...}`, best first. Or it is a query-document pair, and gets the column
    `score`. All other columns are kept. Rows that cannot be scored are written to a file of their
    own with the reason.

    If the output folder is that of an earlier run with the same input and settings, which was
    stopped, only the missing rows are scored.

    Args:
        source: A file whose name ends in .jsonl, .ndjson or .parquet, or a folder with such files
            of one format, at any depth. Names that begin with "." or "_" are left out, and so are
            links to folders and the outputs of runs. The files must not change until the run ends.
        target: The output folder. `rows` in it has the scored rows, in files whose names sort in
            the order of the input, and `bad.jsonl` the others.
        model: The model, as for `Reranker`.
        base_url: The URL of a server that scores, or a list of them, as for `Reranker`.
        query: The column of the query.
        documents: The column of the list of documents. A row without it is a pair.
        text: The column of a pair's document.
        result: The column of the result. None is `hits` or `score`, by the kind of row. Give
            another name if the rows have a column of that name, such as a retriever's score.
        top_n: Keep at most this many hits per row, 1 or more. None keeps all.
        ray: The address of a Ray cluster to run on: that of its head, "auto" for the cluster that
            this machine is part of, or "local" to start one on this machine. `source` and `target`
            must be the same folders on all of its machines. None scores in this process, without
            Ray.
        concurrency: The number of engines or clients on the cluster, 1 or more. None fills it: as
            many as its GPUs allow, or one per machine.
        num_gpus: The number of GPUs of each engine, 0 or more. None is 1 if the cluster has GPUs.
        on_progress: Called when rows are done, possibly from another thread.
        **options: Further arguments of `Reranker`, except for `on_error`, and on a cluster for
            `devices`.

    Returns:
        What the output contains.

    Raises:
        InputError: An argument cannot be used, there is no input, it cannot be read as its format,
            a file has changed since the run started, or `target` is not a folder or not the output
            of the same input and settings, or is that of a run that has not ended.
        MissingDependencyError: Ray or pyarrow is needed, and not installed.
        OSError: A file cannot be read or written.
        RerankerError: Scoring failed. What has been scored so far is kept for another run.
    """
    started = perf_counter()
    options = bulk_options(model, base_url, options, top_n=top_n)
    if ray is None and (concurrency is not None or num_gpus is not None):
        raise InputError("only a Ray cluster can use concurrency= and num_gpus=: give ray= too")
    if ray is not None:
        require_ray()
        check_options(options)
    data = Input.find(_local(source))
    output = Output(_local(target), f".{data.format}")
    output.require_folder()
    columns = Columns(query, documents, text, result)
    settings = score_settings(options, top_n, columns)
    size = max(_SMALLEST_PARTITION, sum(file.bytes for file in data.files) // _PARTITIONS)
    plan = partial(data.plan, columns, size)
    with output.open(data.folder, data.files, settings, plan) as partitions:
        missing = [part for part in partitions if not output.is_done(part)]
        total, left = (sum(part.range.rows for part in parts) for parts in (partitions, missing))
        tracker = Tracker(total, total - left, on_progress)
        if missing:
            job = Job(data, output, columns, top_n)
            _run(job, missing, options, tracker, ray, concurrency, num_gpus)
        data.check()
        counts = output.finish(data.folder, partitions)
    return BulkSummary(
        counts.rows,
        counts.documents,
        counts.bad,
        output.bad_file,
        tracker.documents,
        perf_counter() - started,
    )


def _local(path: str | PathLike[str]) -> Path:
    """Return the absolute path of a file or folder."""
    if _URL.match(os.fspath(path)):
        raise InputError(
            f"{path} is not a path of the file system: give one, or use rerank_dataset, for which "
            "Ray Data reads and writes object stores"
        )
    return expand_user(path).absolute()


def _run(
    job: Job,
    partitions: Sequence[Partition],
    options: Mapping[str, Any],
    tracker: Tracker,
    address: str | None,
    concurrency: int | None,
    num_gpus: float | None,
) -> None:
    if address is None:
        run_here(job, partitions, options, tracker.add)
        return
    with connected(address):
        resources = cluster_resources(
            concurrency, num_gpus, embedded=runs_engine(options), spare_cpus=0
        )
        run_on_cluster(job, partitions, options, resources, tracker.add)
