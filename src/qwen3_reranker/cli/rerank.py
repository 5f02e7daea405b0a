"""The subcommand `rerank`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from qwen3_reranker.cli.console import err, out, print_json, say
from qwen3_reranker.cli.declared_options import with_options
from qwen3_reranker.cli.file_ranking import rerank_lines
from qwen3_reranker.cli.options import (
    AsJson,
    BaseUrl,
    Check,
    CutLast,
    Devices,
    DropDuplicates,
    Eager,
    Engine,
    EnginePython,
    Instruction,
    MaxLength,
    Model,
    TokenBudget,
    open_reranker,
)
from qwen3_reranker.document_files import Kind, Line, read_file
from qwen3_reranker.passages.options import LongDocumentOptions
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.terminal import escape_control

__all__ = ["rerank"]

# Characters of a document that the table shows.
_SHOWN = 300


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def rerank(
    query: Annotated[str, typer.Argument(help="The question or search text.")],
    file: Annotated[
        str,
        typer.Argument(
            help="The documents: JSON Lines, a JSON array, CSV, TSV, or text with one document per "
            "line. - is standard input."
        ),
    ],
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    top_n: Annotated[
        int, typer.Option(min=0, help="Show at most this many documents; 0 shows all.")
    ] = 10,
    instruction: Instruction = None,
    min_score: Annotated[
        float | None, typer.Option(help="Show only documents with at least this score, 0 to 1.")
    ] = None,
    drop_duplicates: DropDuplicates = False,
    token_budget: TokenBudget = None,
    cut_last: CutLast = False,
    max_length: MaxLength = None,
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--format",
            help="The format of the file. Default: decided by its suffix and its first line.",
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="The JSON key or CSV column that holds a document's text.")
    ] = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    check: Check = True,
    eager: Eager = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Rerank the documents in a file, and show those that match a query best."""
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
    with opened as reranker, _progress() as advance:
        kept = rerank_lines(
            reranker,
            query,
            read_file(file, kind, field),
            top_n=top_n or None,
            min_score=min_score,
            drop_duplicates=drop_duplicates,
            token_budget=token_budget,
            cut_last=cut_last,
            on_progress=advance,
        )
    if not kept:
        reasons = [] if min_score is None else [f"scores {min_score} or more"]
        reasons += [] if token_budget is None else [f"fits into {token_budget} tokens"]
        reason = f"no document {' and '.join(reasons)}" if reasons else "no documents"
        say(f"{file}: {reason}")
    elif as_json:
        _print_rows(kept)
    else:
        _print_table(kept)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Yield a function that counts scored documents on a terminal; elsewhere it does nothing."""
    if not err.is_terminal:
        yield lambda _: None
        return
    columns = TextColumn("documents"), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("documents", total=None)
        yield lambda count: bar.advance(task, count)


def _print_rows(kept: Sequence[Line]) -> None:
    for line in kept:
        row: dict[str, Any] = {
            "line": line.number,
            "score": line.score,
            # A blank document has the log-odds -inf, which JSON cannot represent.
            "logit": line.logit if math.isfinite(line.logit) else None,
            "truncated": line.truncated,
        }
        if line.passage is not None:
            row["passage"] = asdict(line.passage)
        if line.cut:
            row |= {"cut": True, "text": line.text}
        print_json(row | {"document": line.record})


def _print_table(kept: Sequence[Line]) -> None:
    """
    Print the documents, or their best passages unless they were cut to fit a token budget.

    A column says which were truncated, if any was.
    """
    columns = ["", "P(yes)", "line", "document"]
    if any(line.truncated for line in kept):
        columns.insert(3, "truncated")
    table = Table(*columns, box=None, header_style="bold")
    for rank, line in enumerate(kept, 1):
        text = line.text
        if line.passage is not None and not line.cut:
            text = text[line.passage.start : line.passage.end]
        text = escape_control(" ".join(text.split()))
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        row: list[str | Text] = [str(rank), f"{line.score:.4f}", str(line.number), Text(shown)]
        if len(columns) > len(row):
            row.insert(3, "yes" if line.truncated else "")
        table.add_row(*row)
    out.print(table)
