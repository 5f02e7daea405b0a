"""The subcommand `doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from qwen3_reranker.cli.console import err, out, print_json
from qwen3_reranker.cli.declared_options import with_options
from qwen3_reranker.cli.flags import flags_of, with_flags
from qwen3_reranker.cli.options import AsJson, Eager, EnginePython, engine_args
from qwen3_reranker.remote.options import ConnectionOptions
from qwen3_reranker.terminal import escape_control

if TYPE_CHECKING:
    from qwen3_reranker.doctor import Finding

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "dim"}


@with_options(ConnectionOptions, panel="Options for a server")
def doctor(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            help="The URL of a server, or a model (a folder or a Hugging Face name). Default: "
            "check only this environment."
        ),
    ] = None,
    *,
    model: Annotated[str | None, typer.Option(help="The model's name on the server.")] = None,
    engine_python: EnginePython = None,
    eager: Eager = False,
    as_json: AsJson = False,
    **server: Any,
) -> None:
    """Diagnose a server, a model or this environment, and suggest fixes."""
    from qwen3_reranker.doctor import diagnose

    with _progress() as show:
        report = diagnose(
            target,
            model=model,
            engine_args=engine_args(eager=eager),
            engine_python=engine_python,
            on_progress=show,
            **server,
        )
    if as_json:
        print_json(report.as_dict(), indent=2)
    else:
        flags = flags_of(context)
        table = Table(box=None, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(min_width=28)
        table.add_column(overflow="fold")  # so that URLs are not truncated
        for finding in report.findings:
            table.add_row(*_cells(finding, flags))
        out.print(table)
    raise typer.Exit(0 if report.healthy else 1)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the running check on a terminal; elsewhere it does nothing."""
    if not err.is_terminal:
        yield lambda _: None
        return
    with err.status("") as status:
        yield lambda check: status.update(Text(escape_control(check)))


def _cells(finding: Finding, flags: Mapping[str, str]) -> list[Text]:
    check = Text(f"{finding.area}: {finding.check}")
    message = Text(escape_control(with_flags(finding.message, flags)))
    if finding.code:
        check.append(f"\n{finding.code}", "dim")
    if finding.advice:
        message.append(f"\n{with_flags(finding.advice, flags)}", "bold")
    return [Text(finding.status, _STYLES[finding.status]), check, message]
