"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["ApiKey", "AsJson", "BaseUrl", "Model"]

Model = Annotated[
    str | None,
    typer.Option(help="A hub name, a folder or demo; with --base-url the server's name for it."),
]
BaseUrl = Annotated[
    list[str] | None,
    typer.Option(help="Ask a server instead of an embedded vLLM; repeat for fail-over."),
]
ApiKey = Annotated[
    str | None, typer.Option(envvar="QWEN3_RERANKER_API_KEY", help="The server's API key.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
