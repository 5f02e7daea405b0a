"""The subcommand `playground`."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import typer

from qwen3_reranker.addresses import is_loopback, listen
from qwen3_reranker.cli.announcement import announce
from qwen3_reranker.cli.console import say
from qwen3_reranker.cli.declared_options import with_options
from qwen3_reranker.cli.flags import page_messages
from qwen3_reranker.cli.options import (
    BaseUrl,
    Check,
    Devices,
    Eager,
    Engine,
    EnginePython,
    Instruction,
    MaxLength,
    open_reranker,
)
from qwen3_reranker.passages.options import LongDocumentOptions, pop_long_document_options
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions

__all__ = ["playground"]


@with_options(ConnectionOptions, ServerOptions, panel="Options for a server")
@with_options(LongDocumentOptions, panel="Options for long documents")
def playground(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A Hugging Face name, a folder, or demo. With --base-url, the model's name there."
        ),
    ] = None,
    *,
    base_url: BaseUrl = None,
    other_model: Annotated[
        str | None,
        typer.Option(
            help="A second model, to compare with. With --base-url, its name on that server."
        ),
    ] = None,
    other_base_url: Annotated[
        list[str] | None,
        typer.Option(help="The URL of a second server, to compare with. Repeat it as --base-url."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 for all networks.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on; 0 takes one that is free.")
    ] = 7860,
    instruction: Instruction = None,
    max_length: MaxLength = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    check: Check = True,
    eager: Eager = False,
    **options: Any,
) -> None:
    """Open a page to understand a ranking: scores, moves, passages, prompts and comparisons."""
    from qwen3_reranker.playground import create_page, page_app
    from qwen3_reranker.playground.models import long_document_modes

    long_documents = pop_long_document_options(options)
    # After the page, whose message about a missing extra is the one to show.
    from qwen3_reranker.app_server import AppServer

    embedded: dict[str, Any] = {
        "engine": engine,
        "engine_python": engine_python,
        "devices": devices,
        "check": check,
        "eager": eager,
    }
    targets = [(model, base_url)]
    if other_model or other_base_url:
        targets.append((other_model, other_base_url or base_url))
    mixed = len({bool(urls) for _, urls in targets}) > 1

    with listen(host, port) as listener, ExitStack() as stack:
        rerankers = []
        for name, urls in targets:
            settings = {**embedded, **options}
            if mixed:  # each option belongs to one of the two
                settings = {"eager": False, **(options if urls else embedded)}
            settings |= {"instruction": instruction, "max_length": max_length}
            rerankers += [
                stack.enter_context(open_reranker(name, base_url=urls, **settings, **mode))
                for mode in long_document_modes(long_documents)
            ]
        app = page_app(create_page(*rerankers, explain=page_messages(context)))
        number = listener.getsockname()[1]
        AppServer(app, listener, partial(_announce, host, number)).run_here()


def _announce(host: str, port: int) -> None:
    """Say where the page is, and who can open it."""
    announce("the playground", host, port)
    if is_loopback(host):
        return
    say(
        "warning: everyone who can reach this machine can use it, without a password. To use it "
        f"alone from elsewhere, leave --host out and open a tunnel: ssh -L {port}:localhost:{port} "
        f"{socket.gethostname()}",
        "yellow",
    )
