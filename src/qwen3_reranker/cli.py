"""The command `qwen3-reranker`: thin; the functions that it calls do the work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

try:
    import typer
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    sys.exit(f"the command needs typer and rich: pip install 'qwen3-reranker[cli]' ({error})")

from qwen3_reranker.errors import InputError, RerankerError
from qwen3_reranker.files import Line, read_lines, rerank_lines

__all__ = ["app", "main"]

app = typer.Typer(
    help="Convert, serve, check and try Qwen3 rerankers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In fp32 a conversion moves scores by less.
_CLOSE = 2e-3
# Results go to standard output; what is said about them does not.
_out = Console()
_err = Console(stderr=True)

Model = Annotated[
    str | None, typer.Option(help="A hub name, a folder or demo; with a URL its name there.")
]
BaseUrl = Annotated[list[str] | None, typer.Option(help="A server instead of an embedded vLLM.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="QWEN3_RERANKER_API_KEY", help="The server's key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
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
        TextColumn("documents"), MofNCompleteColumn(), TimeElapsedColumn(), console=_err,
        transient=True, disable=not _err.is_terminal,
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


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="An original (causal) checkpoint, or a hub name.")],
    target: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    *,
    labels: Annotated[int, typer.Option(min=1, max=2, help="1: yes - no; 2: [no, yes].")] = 1,
    engine: Annotated[
        Literal["vllm", "sglang", "transformers"] | None,
        typer.Option("--for", help="What will serve it."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Score golden pairs with both.")] = False,
) -> None:
    """Make a classifier of a causal checkpoint, without loading it."""
    from qwen3_reranker import deploy

    done = deploy.convert(
        source,
        target,
        labels=1 if labels == 1 else 2,
        engine=engine,
        progress=_err.is_terminal,
    )
    _err.print(
        f"{done.folder}: {done.labels} label(s), head in {done.dtype}, {len(done.linked)} files "
        f"linked ({done.linked_bytes / 1e9:.2f} GB), {len(done.copied)} copied "
        f"({done.copied_bytes / 1e9:.2f} GB)",
        markup=False,
        soft_wrap=True,
    )
    if not verify:
        return
    found = deploy.verify(source, target)
    print(found)
    if found.difference > _CLOSE:
        raise typer.Exit(1)


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="A hub name, a folder or demo.")],
    *,
    engine: Annotated[Literal["vllm", "vllm-ascend", "sglang"], typer.Option()] = "vllm",
    print_: Annotated[
        Literal["shell", "compose"] | None,
        typer.Option("--print", help="Print how to start it instead of starting it."),
    ] = None,
    version: Annotated[str | None, typer.Option(help="The engine's; else the installed.")] = None,
    python: Annotated[str | None, typer.Option(help="The interpreter that has the engine.")] = None,
    kind: Annotated[
        Literal["causal", "one-label", "two-label"] | None,
        typer.Option(help="What the checkpoint is, where its files cannot be read here."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8000,
    max_length: Annotated[int | None, typer.Option(help="The most tokens of a prompt.")] = None,
    dtype: Annotated[str, typer.Option(help="What it computes in.")] = "auto",
    tensor_parallel: Annotated[int, typer.Option(help="Devices a copy of the model.")] = 1,
    data_parallel: Annotated[int, typer.Option(help="Copies of the model.")] = 1,
    served_name: Annotated[str | None, typer.Option(help="What requests call the model.")] = None,
    api_key_variable: Annotated[
        str | None, typer.Option(help="The environment variable that holds the key to ask for.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="With --print compose: the image.")] = None,
    extra: Annotated[
        list[str] | None, typer.Argument(help="More of the engine's arguments, behind --.")
    ] = None,
) -> None:
    """Start a server of a reranker, or print how to."""
    from qwen3_reranker.deploy.serve import compose, launch, shell
    from qwen3_reranker.deploy.serve import serve as start

    wanted = launch(
        model,
        engine=engine,
        version=version,
        python=python,
        kind=kind,
        host=host,
        port=port,
        max_length=max_length,
        dtype=dtype,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        served_name=served_name,
        api_key_variable=api_key_variable,
        extra=extra or (),
    )
    if print_ == "shell":
        print(shell(wanted))
    elif print_ == "compose":
        print(compose(wanted, image=image))
    else:
        start(wanted)


@app.command()
def doctor(
    target: Annotated[
        str | None, typer.Argument(help="A server's URL or a model; nothing for the environment.")
    ] = None,
    *,
    api_key: ApiKey = None,
    model: Annotated[str | None, typer.Option(help="The name the server knows it by.")] = None,
    dialect: Annotated[str, typer.Option(help="What the server speaks.")] = "auto",
    template: Annotated[Literal["auto", "client", "server"], typer.Option()] = "auto",
    tokenizer: Annotated[str | None, typer.Option(help="The model's tokenizer.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a request.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a server, a model or this environment, and what to do."""
    from qwen3_reranker.deploy.doctor import diagnose

    report = diagnose(
        target,
        api_key=api_key,
        dialect=dialect,
        template=template,
        model=model,
        tokenizer=tokenizer,
        timeout=timeout,
    )
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
    else:
        table = Table("", "check", "found", "what to do", header_style="bold", box=None)
        colours = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "dim"}
        for one in report.findings:
            code = f"\n{one.code}" if one.code else ""
            table.add_row(
                Text(one.status, colours[one.status]),
                Text(f"{one.area}: {one.check}{code}"),
                Text(one.found),
                Text(one.advice),
            )
        _out.print(table)
    raise typer.Exit(0 if report.healthy else 1)


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
    _out.print(table)


def main() -> None:
    """Run the command; an error of this package is a message and exit code 2, not a traceback."""
    try:
        app()
    except RerankerError as error:
        # As it is: a message may hold brackets, which rich would read as markup.
        _err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
