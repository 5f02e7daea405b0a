"""`qwen3-reranker doctor`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from qwen3_reranker.cli.console import out
from qwen3_reranker.cli.options import ApiKey, AsJson

__all__ = ["doctor"]


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
        out.print(table)
    raise typer.Exit(0 if report.healthy else 1)
