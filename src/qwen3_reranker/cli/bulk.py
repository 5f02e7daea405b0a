"""The subcommand `bulk`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from qwen3_reranker.cli.console import err, say
from qwen3_reranker.cli.declared_options import with_options, without_unused_key
from qwen3_reranker.cli.options import (
    BaseUrl,
    Check,
    Devices,
    Eager,
    Engine,
    EnginePython,
    Instruction,
    MaxLength,
    Model,
    engine_args,
)
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions

if TYPE_CHECKING:
    from qwen3_reranker.bulk import BulkProgress

__all__ = ["bulk"]

_BAD_ROWS = 1
# The interval between the lines that show the progress where there is no terminal, in seconds.
_INTERVAL = 60


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def bulk(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A .jsonl or .parquet file, or a folder of such files. A row has a query and a "
            "list of documents, or a query and a text.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="The folder for the results. If it is that of a run that was stopped, the run is "
            "continued.",
        ),
    ],
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    query: Annotated[str, typer.Option(help="The column of the query.")] = "query",
    documents: Annotated[
        str, typer.Option(help="The column of the list of documents.")
    ] = "documents",
    text: Annotated[str, typer.Option(help="The column of a pair's document.")] = "text",
    result: Annotated[
        str | None,
        typer.Option(help="The column of the result. Default: hits, or score for a pair."),
    ] = None,
    top_n: Annotated[
        int | None, typer.Option(help="Keep at most this many hits per row. Default: all.")
    ] = None,
    instruction: Instruction = None,
    max_length: MaxLength = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Run on a Ray cluster: its address, auto for the one that this machine is part "
            "of, or local to start one on this machine. Default: score in this process."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help="The number of engines, or of clients of a server, on the cluster. Default: as "
            "many as its GPUs allow, or one per machine."
        ),
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option(
            help="The number of GPUs of each engine on the cluster. Default: 1 if it has any."
        ),
    ] = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    check: Check = True,
    eager: Eager = False,
    **options: Any,
) -> None:
    """
    Rerank the rows of files of any size, on this machine or on a Ray cluster.

    OUT/rows gets the rows with their scores, and OUT/bad.jsonl those that cannot be scored.
    """
    from qwen3_reranker.bulk import rerank_files

    with _progress() as show:
        summary = rerank_files(
            source,
            target,
            model=model,
            base_url=base_url,
            query=query,
            documents=documents,
            text=text,
            result=result,
            top_n=top_n,
            ray=ray,
            concurrency=concurrency,
            num_gpus=num_gpus,
            on_progress=show,
            instruction=instruction,
            max_length=max_length,
            engine=engine,
            engine_python=engine_python,
            devices=devices,
            engine_args=engine_args(eager=eager),
            check=check,
            **without_unused_key(options, base_url),
        )
    scored = summary.rows - summary.bad_rows
    say(
        f"{scored:,} rows with {summary.documents:,} documents in {target}, "
        f"{summary.new_documents:,} of them scored in {summary.seconds:,.1f} s"
    )
    if summary.bad_rows:
        say(f"{summary.bad_rows:,} rows cannot be scored, see {summary.bad_file}", "yellow")
        raise typer.Exit(_BAD_ROWS)


@contextmanager
def _progress() -> Iterator[Callable[[BulkProgress], None]]:
    """Yield a function that shows the progress: a bar, or without a terminal a line a minute."""
    if not err.is_terminal:
        last = time.monotonic()

        def log(progress: BulkProgress) -> None:
            nonlocal last
            if time.monotonic() - last >= _INTERVAL:
                last = time.monotonic()
                say(_described(progress))

        yield log
        return
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda progress: bar.update(
            task,
            completed=progress.rows,
            total=progress.total,
            description=_described(progress),
        )


def _described(progress: BulkProgress) -> str:
    left = progress.seconds_left
    until = "" if left is None else f", {_duration(left)} left"
    return (
        f"{progress.rows:,} of {progress.total:,} rows, "
        f"{progress.documents_per_second:,.1f} documents per second{until}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
