"""Options that several subcommands share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from qwen3_reranker.errors import InputError

__all__ = [
    "ApiKey",
    "AsJson",
    "BaseUrl",
    "DialectName",
    "Eager",
    "EnginePython",
    "Headers",
    "Model",
    "TemplateBy",
    "Timeout",
    "Tokenizer",
    "engine_args",
    "given",
    "parse_headers",
]


def _dialect_names() -> list[str]:
    from qwen3_reranker.dialects import dialects

    return ["auto", *(dialect.name for dialect in dialects())]


Model = Annotated[
    str | None,
    typer.Option(
        help="A Hugging Face name, a folder, or demo (a tiny model for trying things out). With "
        "--base-url, the model's name on the server."
    ),
]
BaseUrl = Annotated[
    list[str] | None,
    typer.Option(
        help="The URL of a server to score with, instead of an engine started here. Repeat it to "
        "add servers to fall back on."
    ),
]
ApiKey = Annotated[
    str | None, typer.Option(envvar="QWEN3_RERANKER_API_KEY", help="The server's API key.")
]
DialectName = Annotated[
    str | None,
    typer.Option(
        autocompletion=_dialect_names,
        help="The API that the server speaks, such as vllm-classify or tei. Default: detected.",
    ),
]
TemplateBy = Annotated[
    Literal["auto", "client", "server"] | None,
    typer.Option(help="Who writes the Qwen3 prompt: this client or the server. Default: detected."),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="The tokenizer of the server's model: a tokenizer.json, a folder or a Hugging Face name."
    ),
]
Timeout = Annotated[
    float | None, typer.Option(help="The seconds that a request may take, including retries.")
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header", help="An HTTP header to send, as 'Name: value'. Repeat it to send more."
    ),
]
Eager = Annotated[
    bool,
    typer.Option(
        "--eager",
        help="Start vLLM without compiling the model: it starts faster but scores slower.",
    ),
]
EnginePython = Annotated[
    str | None,
    typer.Option(
        help="A Python interpreter that has vLLM, such as /opt/vllm/bin/python. Default: "
        "QWEN3_RERANKER_ENGINE_PYTHON, this interpreter, or the private environment."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, which are those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def engine_args(*, eager: bool) -> dict[str, Any] | None:
    """Return the arguments of an embedded engine that `--eager` stands for."""
    return {"enforce_eager": True} if eager else None


def parse_headers(headers: list[str] | None) -> dict[str, str] | None:
    """
    Parse the values of `--header`.

    Args:
        headers: Values such as "Name: value"; None for none.

    Returns:
        The headers by name; None for none.

    Raises:
        InputError: A value has no colon. The message does not repeat it, because it may be a key.
    """
    if not headers:
        return None
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise InputError("--header needs the form 'Name: value'")
        parsed[name.strip()] = value.strip()
    return parsed
