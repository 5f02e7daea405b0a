"""`qwen3-reranker rerank`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from qwen3_reranker.cli.console import err, out
from qwen3_reranker.cli.options import ApiKey, AsJson, BaseUrl, Model
from qwen3_reranker.errors import InputError
from qwen3_reranker.files import Line, read_lines, rerank_lines

__all__ = ["rerank"]


def rerank(
    query: Annotated[str, typer.Argument(help="What is asked.")],
    file: Annotated[str, typer.Argument(help="FILE.jsonl, a text file with a document a line, -")],
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    top_n: Annotated[int, typer.Option(min=0, help="Keep so many; 0 keeps all.")] = 10,
    instruction: Annotated[str | None, typer.Option(help="What makes a document good.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Keep those with this P(yes).")] = None,
    max_length: Annotated[int | None, typer.Option(help="The most tokens of a prompt.")] = None,
    field: Annotated[str | None, typer.Option(help="The JSON key that holds the text.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which documents of a file answer a question best."""
    from qwen3_reranker.reranker import Reranker

    server: dict[str, Any] = {"api_key": api_key} if base_url and api_key else {}
    bar = Progress(
        TextColumn("documents"), MofNCompleteColumn(), TimeElapsedColumn(), console=err,
        transient=True, disable=not err.is_terminal,
    )  # fmt: skip
    with (
        _opened(file) as (lines, kind),
        Reranker(
            model, base_url=base_url, instruction=instruction, max_length=max_length, **server
        ) as reranker,
        bar,
    ):
        task = bar.add_task("documents", total=None)
        kept = rerank_lines(
            reranker,
            query,
            read_lines(lines, kind, field),
            top_n=top_n or None,
            min_score=min_score,
            on_progress=lambda count: bar.advance(task, count),
        )
    _show(kept, as_json=as_json)


@contextmanager
def _opened(file: str) -> Iterator[tuple[Iterable[str], Literal["jsonl", "txt"]]]:
    """Yield a file's lines and what they are; of standard input the first line tells."""
    if file == "-":
        first = sys.stdin.readline()
        kind: Literal["jsonl", "txt"] = "jsonl" if first.lstrip().startswith(("{", '"')) else "txt"
        yield chain([first], sys.stdin), kind
        return
    path = Path(file)
    try:
        with path.open(encoding="utf-8") as lines:
            yield lines, "jsonl" if path.suffix in (".jsonl", ".ndjson") else "txt"
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file!r} cannot be read: {error}") from None


def _show(kept: Sequence[Line], *, as_json: bool) -> None:
    if as_json:
        for line in kept:
            row = {"line": line.number, "score": line.score, "truncated": line.truncated}
            print(json.dumps(row | {"document": line.record}, ensure_ascii=False))
        return
    table = Table("", "P(yes)", "line", "document", box=None, header_style="bold")
    for place, line in enumerate(kept, 1):
        text = " ".join(line.text.split())
        table.add_row(str(place), f"{line.score:.4f}", str(line.number), Text(text[:300]))
    out.print(table)
