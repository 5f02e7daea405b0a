"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from qwen3_reranker.errors import InputError

__all__ = [
    "ApiKey",
    "AsJson",
    "BaseUrl",
    "DialectName",
    "Eager",
    "Headers",
    "Model",
    "TemplateBy",
    "Timeout",
    "Tokenizer",
    "parse_headers",
]


def _dialect_names() -> list[str]:
    from qwen3_reranker.scorers.dialects import dialects

    return ["auto", *(dialect.name for dialect in dialects())]


Model = Annotated[
    str | None,
    typer.Option(help="A hub name, a folder or demo; with --base-url the server's name for it."),
]
BaseUrl = Annotated[
    list[str] | None,
    typer.Option(help="Ask a server instead of an embedded vLLM; repeat it for fail-over."),
]
ApiKey = Annotated[
    str | None, typer.Option(envvar="QWEN3_RERANKER_API_KEY", help="The server's API key.")
]
DialectName = Annotated[
    str | None,
    typer.Option(
        autocompletion=_dialect_names,
        help="The server's dialect; it is detected if this is not given.",
    ),
]
TemplateBy = Annotated[
    Literal["auto", "client", "server"] | None,
    typer.Option(help="Who writes the Qwen3 template; it is detected if this is not given."),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="The model's tokenizer: a tokenizer.json, a folder or a hub name."),
]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds for a request to a server, retries included.")
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", help="An HTTP header, as 'Name: value'; repeat it for more."),
]
Eager = Annotated[
    bool,
    typer.Option("--eager", help="Start the embedded vLLM without compiling the model."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parse_headers(headers: list[str] | None) -> dict[str, str] | None:
    """
    Return the headers that `--header` gave.

    Raises:
        InputError: One has no colon. Its value is not shown, for it may be a key.
    """
    if not headers:
        return None
    found = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise InputError("--header needs the form 'Name: value'")
        found[name.strip()] = value.strip()
    return found
