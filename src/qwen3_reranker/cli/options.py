"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qwen3_reranker.cli.declared_options import without_unused_key
from qwen3_reranker.closing import closed_after
from qwen3_reranker.embedded.devices import split_devices
from qwen3_reranker.embedded.engine_settings import EngineChoice

if TYPE_CHECKING:
    from qwen3_reranker.reranker import Reranker

__all__ = [
    "AsJson",
    "BaseUrl",
    "Check",
    "CutLast",
    "Devices",
    "DropDuplicates",
    "Eager",
    "Engine",
    "EnginePython",
    "Instruction",
    "MaxLength",
    "Model",
    "TokenBudget",
    "engine_args",
    "open_reranker",
]

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
        help="The URL of a server to score with, instead of an engine started here. Repeat it for "
        "several servers of the same model, which share the work and take over from each other."
    ),
]
Instruction = Annotated[
    str | None,
    typer.Option(help="What makes a document a good match, in one English sentence."),
]
MaxLength = Annotated[
    int | None,
    typer.Option(help="The maximum number of tokens in a prompt. Longer documents are cut."),
]
Engine = Annotated[
    EngineChoice,
    typer.Option(
        help="What runs the model here. auto: vLLM on Linux, transformers on macOS and Windows."
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        " /--no-check",
        show_default=False,
        help="Do not check that the model is a Qwen3 reranker when it starts.",
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
Devices = Annotated[
    Any,  # parsed to a list[int | str]
    typer.Option(
        parser=split_devices,
        metavar="LIST",
        help="The devices to run vLLM on, an engine on each: GPUs, such as 0,1, or sets of CPU "
        "cores, such as cpu:0-7,cpu:8-15.",
    ),
]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="Drop near-duplicates of better documents.")
]
TokenBudget = Annotated[
    int | None,
    typer.Option(help="Keep the best documents whose tokens add up to at most this number."),
]
CutLast = Annotated[
    bool, typer.Option("--cut-last", help="Cut the first document that exceeds --token-budget.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def engine_args(*, eager: bool) -> dict[str, Any] | None:
    """Return the arguments of an embedded engine that `--eager` stands for."""
    return {"enforce_eager": True} if eager else None


@contextmanager
def open_reranker(
    model: str | None,
    *,
    base_url: list[str] | None,
    eager: bool,
    **options: Any,
) -> Iterator[Reranker]:
    """
    Make the reranker that a command's options describe, and close it at the end.

    It is not closed on Ctrl-C, because that would wait for an engine that is starting.

    Args:
        model: The value of `--model`.
        base_url: The values of `--base-url`.
        eager: Whether `--eager` was given.
        **options: Further arguments of `Reranker`.
    """
    from qwen3_reranker.reranker import Reranker

    options = without_unused_key(options, base_url)
    reranker = Reranker(model, base_url=base_url, engine_args=engine_args(eager=eager), **options)
    with closed_after(reranker):
        yield reranker
