"""Options that several subcommands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = ["AsJson", "BaseUrl", "Eager", "EnginePython", "Model", "engine_args"]

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


def engine_args(*, eager: bool) -> dict[str, Any] | None:
    """Return the arguments of an embedded engine that `--eager` stands for."""
    return {"enforce_eager": True} if eager else None
