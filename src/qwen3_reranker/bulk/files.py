"""Rerank the rows of files, in this process or on a Ray cluster, and continue where a run ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

from qwen3_reranker.bulk.job import FormatName, Job, file_format
from qwen3_reranker.bulk.local import run_here
from qwen3_reranker.bulk.output import InputFile, Output
from qwen3_reranker.bulk.partitions import FileFormat, Partition
from qwen3_reranker.bulk.progress import BulkProgress, Tracker
from qwen3_reranker.bulk.rows import Columns
from qwen3_reranker.bulk.settings import bulk_options, score_settings
from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.selection import Selection

__all__ = ["BulkSummary", "require_ray", "rerank_files"]

# A partition is large enough for an engine to be busy most of the time, and small enough for little
# to be repeated. A large input has larger partitions, so that a folder has not too many files.
_SMALLEST_PARTITION = 2 * 2**20
_PARTITIONS = 10_000


@dataclass(frozen=True, slots=True)
class BulkSummary:
    """
    What the output of `rerank_files()` holds.

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
            of one format, at any depth. Names that begin with "." or "_" are ignored.
        target: The output folder. `rows` in it has the scored rows, in files whose names sort in
            the order of the input, and `bad.jsonl` the others.
        model: The model, as for `Reranker`.
        base_url: The URL of a server that scores, or a list of them, as for `Reranker`.
        query: The column of the query.
        documents: The column of the list of documents. A row without it is a pair.
        text: The column of a pair's document.
        top_n: Keep at most this many hits per row, 1 or more. None keeps all.
        ray: The address of a Ray cluster to run on: that of its head, "auto" for the cluster that
            this machine is part of, or "local" to start one on this machine. `source` and `target`
            must be the same folders on all of its machines. None scores in this process, without
            Ray.
        concurrency: The number of engines or clients on the cluster, 1 or more. None fills it: as
            many as its GPUs allow, or one per machine.
        num_gpus: The number of GPUs of each engine, 0 or more. None is 1 if the cluster has GPUs.
        on_progress: Called when rows are done, possibly from another thread.
        **options: Further arguments of `Reranker`, except for `on_error`.

    Returns:
        What the output holds.

    Raises:
        InputError: An argument cannot be used, there is no input, or `target` is not the output of
            the same input and settings.
        MissingDependencyError: Ray or pyarrow is needed, and not installed.
        OSError: A file cannot be read or written.
        RerankerError: Scoring failed. What has been scored so far is kept for another run.
    """
    begun = perf_counter()
    options = bulk_options(model, base_url, options)
    Selection(top_n=top_n)  # validates it
    if ray is None and (concurrency is not None or num_gpus is not None):
        raise InputError("only a Ray cluster can use concurrency= and num_gpus=: give ray= too")
    if ray is not None:
        require_ray()
    root, files = _input_files(Path(source))
    name, kind = _format(files)
    columns = Columns(query, documents, text)
    output = Output(Path(target).absolute(), kind.suffixes[0])
    settings = score_settings(options, top_n, columns)
    stats = [_stat(root, file) for file in files]
    size = max(_SMALLEST_PARTITION, sum(file.bytes for file in stats) // _PARTITIONS)
    plan = lambda: _plan(kind, files, columns, size)  # noqa: E731
    partitions = output.begin(root, stats, settings, plan)
    missing = [part for part in partitions if not output.is_done(part)]
    total, left = (sum(part.range.rows for part in parts) for parts in (partitions, missing))
    tracker = Tracker(total, total - left, on_progress)
    if missing:
        job = Job(name, output, columns, top_n)
        _run(job, missing, options, tracker, ray, concurrency, num_gpus)
    counts = output.finish(root, partitions)
    return BulkSummary(
        counts.rows,
        counts.documents,
        counts.bad,
        output.bad_file,
        tracker.documents,
        perf_counter() - begun,
    )


def require_ray() -> None:
    """
    Check that Ray can be used.

    Raises:
        MissingDependencyError: It is not installed.
    """
    if find_spec("ray") is None:
        raise MissingDependencyError(
            "a Ray cluster needs Ray: pip install 'qwen3-reranker[ray]', here and on its machines"
        )


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
    from qwen3_reranker.bulk.cluster import check_sendable, connected, run_on_cluster
    from qwen3_reranker.bulk.resources import cluster_resources

    check_sendable(options)
    embedded = options.get("base_url") is None and options.get("scorer") is None
    with connected(address):
        resources = cluster_resources(concurrency, num_gpus, embedded=embedded, spare_cpus=0)
        run_on_cluster(job, partitions, options, resources, tracker.add)


def _input_files(source: Path) -> tuple[Path, list[Path]]:
    """Return the folder of the input and its files, in the order of their names."""
    source = source.absolute()
    if source.is_file():
        return source.parent, [source]
    if not source.is_dir():
        raise InputError(f"{source} does not exist: give a file or a folder")
    names = (path.relative_to(source) for path in source.rglob("*"))
    visible = (name for name in names if not any(part[0] in "._" for part in name.parts))
    suffixes = [suffix for name in get_args(FormatName) for suffix in file_format(name).suffixes]
    files = sorted(source / name for name in visible if name.suffix in suffixes)
    if not files:
        raise InputError(f"{source} has no file whose name ends in {', '.join(suffixes)}")
    return source, files


def _format(files: Iterable[Path]) -> tuple[FormatName, FileFormat]:
    """Return the format that all files have, by their names."""
    suffixes = {file.suffix for file in files}
    for name in get_args(FormatName):
        if suffixes <= {*(kind := file_format(name)).suffixes}:
            return name, kind
    raise InputError(
        f"the input has files in {', '.join(sorted(suffixes))}: give .jsonl (or .ndjson) or "
        ".parquet, and one format at a time"
    )


def _stat(root: Path, file: Path) -> InputFile:
    status = file.stat()
    return InputFile(file.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns)


def _plan(
    kind: FileFormat, files: Sequence[Path], columns: Columns, size: int
) -> Iterator[Partition]:
    for number, file in enumerate(files):
        for rows in kind.plan(str(file), columns, size):
            yield Partition(number, str(file), rows)
