"""The subcommand `bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from qwen3_reranker.cli.console import err, out, say
from qwen3_reranker.cli.declared_options import with_options
from qwen3_reranker.cli.flags import flags_of
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
    open_reranker,
)
from qwen3_reranker.document_files import Kind, read_file
from qwen3_reranker.errors import InputError
from qwen3_reranker.options import declared
from qwen3_reranker.output_files import require_writable
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.terminal import escape_control

if TYPE_CHECKING:
    from qwen3_reranker.bench import BenchResult

__all__ = ["bench"]

_FAILURE = 3
# The default of `Reranker`; and in an open loop, so many that the client is not the bottleneck.
_CONNECTIONS, _OPEN_LOOP_CONNECTIONS = 32, 1024


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def bench(
    context: typer.Context,
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Closed loop: keep this many requests in flight. Default: 16, without --rate.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Open loop: send this many requests per second on average, at random times (a "
            "Poisson process), however long they take."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Send requests for this many seconds. Default: 60, or no limit with --requests."
        ),
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Send this many requests at most.")
    ] = None,
    documents: Annotated[
        int | None, typer.Option(min=1, help="The number of documents per request. Default: 50.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="The number of tokens in each random document. Default: 200."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="Draw the documents from this file instead of making random ones: JSON Lines, a "
            "JSON array, CSV, TSV, or text with one document per line. - is standard input."
        ),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--format",
            help="The format of --file. Default: decided by its suffix and its first line.",
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(help="The JSON key or CSV column that holds a document's text in --file."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Send the requests in this file: JSON Lines with query and documents. - is "
            "standard input."
        ),
    ] = None,
    instruction: Instruction = None,
    max_length: MaxLength = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this JSON file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the latencies in this SVG file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Compare two files that --json has written, and send nothing."),
    ] = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    check: Check = True,
    eager: Eager = False,
    **options: Any,
) -> None:
    """Put an engine or a server under load, and measure its latency and throughput."""
    from qwen3_reranker.bench import LoadTest

    if compare is not None:
        _compare(context, *compare)
        return
    require_writable("--json", json_file)
    require_writable("--plot", plot, ".svg")
    texts = None if file is None else [line.text for line in read_file(file, kind, field)]
    own_pairs = None if pairs is None else _read_pairs(pairs)
    if base_url:
        connections = _OPEN_LOOP_CONNECTIONS if rate is not None else concurrency or 0
        options.setdefault("max_concurrency", max(connections, _CONNECTIONS))
    recorded = _recorded(options, max_length=max_length, devices=devices, eager=eager or None)
    opened = open_reranker(
        model,
        base_url=base_url,
        eager=eager,
        instruction=instruction,
        max_length=max_length,
        engine=engine,
        engine_python=engine_python,
        devices=devices,
        check=check,
        **options,
    )
    with opened as reranker:
        test = LoadTest(
            reranker,
            concurrency=concurrency,
            rate=rate,
            seconds=seconds,
            requests=requests,
            documents=documents,
            tokens=tokens,
            texts=texts,
            pairs=own_pairs,
        )
        try:
            with _progress(test.settings) as show:
                result = test.run(on_progress=show)
        except KeyboardInterrupt:
            _report(test.result(), recorded, json_file, plot)
            raise
        _report(result, recorded, json_file, plot)
    if not result.successful:
        raise typer.Exit(_FAILURE)


def _recorded(options: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """
    Return the options that a result records: those that were given, except for secrets.

    Args:
        options: The options for servers and for long documents that were given.
        **others: Further options; None if not given.
    """
    hidden = {name for name, (_, option) in declared(ServerOptions).items() if option.hidden}
    settings = {name: value for name, value in options.items() if name not in hidden}
    return settings | {name: value for name, value in others.items() if value is not None}


def _read_pairs(file: str) -> list[tuple[str, list[str]]]:
    """Return the requests in a file of JSON Lines."""
    pairs = []
    for line in read_file(file, "jsonl", "query"):
        documents = line.record.get("documents")
        if not isinstance(documents, list) or not all(isinstance(text, str) for text in documents):
            raise InputError(f"{file}, line {line.number} has no list of strings under 'documents'")
        if not line.text.strip():
            raise InputError(f"{file}, line {line.number} has a blank query")
        pairs.append((line.text, documents))
    return pairs


@contextmanager
def _progress(settings: Mapping[str, Any]) -> Iterator[Callable[[float, int, int], None] | None]:
    """Yield a function that shows the progress on a terminal; elsewhere, None."""
    if not err.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        counts = settings["seconds"] is None
        task = bar.add_task("warming up", total=settings["requests" if counts else "seconds"])

        def show(elapsed: float, successful: int, failed: int) -> None:
            rate = successful / elapsed
            bar.update(
                task,
                completed=successful + failed if counts else elapsed,
                description=f"{successful} requests, {failed} failed, {rate:.1f} per second",
            )

        yield show


def _report(
    result: BenchResult, recorded: Mapping[str, Any], json_file: Path | None, plot: Path | None
) -> None:
    """
    Print a result and write its files, unless nothing was measured.

    Args:
        result: The result.
        recorded: The options to record among its settings.
        json_file: The file for the numbers.
        plot: The file for the picture.
    """
    if not result.successful + result.failed:
        return
    result = replace(result, settings={**result.settings, **recorded})
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for label, value in result.rows():
        table.add_row(Text(label), Text(value))
    out.print(table)
    for name, failure in result.errors.items():
        say(f"{failure.count} failed with {name}, first: {failure.message}", "red")
    if json_file is not None:
        result.save(json_file)
    if plot is not None and not result.successful:
        say(f"{plot} was not drawn: no request was successful", "red")
    elif plot is not None:
        result.plot(plot)


def _compare(context: typer.Context, a: Path, b: Path) -> None:
    """Print two results beside each other."""
    from qwen3_reranker.bench import BenchResult, compare

    flags = flags_of(context)
    sources = {name: context.get_parameter_source(name) for name in context.params}
    # Typer has a copy of click's enumeration in newer versions, so there is no common type.
    used = [flags[n] for n, s in sources.items() if s is not None and s.name == "COMMANDLINE"]
    if others := [flag for flag in used if flag != "--compare"]:
        raise InputError(f"--compare cannot be combined with {', '.join(others)}")
    comparison = compare(BenchResult.load(a), BenchResult.load(b))
    table = Table(box=None, header_style="bold")
    table.add_column()
    for name in (str(a), str(b), "ratio"):
        table.add_column(Text(escape_control(name)), justify="right")
    for row in comparison.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(*map(Text, (row.label, row.a, row.b, ratio)))
    out.print(table)
    for note in comparison.notes():
        print(escape_control(note))
