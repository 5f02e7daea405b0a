"""The subcommand `gateway`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qwen3_reranker.addresses import is_loopback, listen, url_of
from qwen3_reranker.cli.announcement import announce
from qwen3_reranker.cli.console import say
from qwen3_reranker.cli.declared_options import with_options, without_unused_key
from qwen3_reranker.cli.flags import page_messages
from qwen3_reranker.cli.gateway_page import PAGE, add_page
from qwen3_reranker.cli.options import (
    BaseUrl,
    Check,
    CutLast,
    Devices,
    DropDuplicates,
    Eager,
    Engine,
    EnginePython,
    Instruction,
    MaxLength,
    TokenBudget,
    engine_args,
)
from qwen3_reranker.errors import InputError, RerankerError
from qwen3_reranker.passages.options import LongDocumentOptions, pop_long_document_options
from qwen3_reranker.remote.options import ConnectionOptions, ServerOptions
from qwen3_reranker.selection import SelectionOptions

if TYPE_CHECKING:
    from qwen3_reranker.gateway import GatewayConfig, Limits

__all__ = ["gateway"]

_KEY_VARIABLE = "QWEN3_RERANKER_UPSTREAM_API_KEY"


@with_options(
    ConnectionOptions,
    ServerOptions,
    panel="Options for servers behind the gateway",
    key=("--upstream-api-key", _KEY_VARIABLE),
)
@with_options(LongDocumentOptions, panel="Options for long documents")
def gateway(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A Hugging Face name, a folder, or demo. With --base-url, the model's name there."
        ),
    ] = None,
    *,
    base_url: BaseUrl = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 for all networks.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    instruction: Instruction = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=INSTRUCTION: another name for the model, with an instruction of its own, "
            "for clients that can choose only a model. Repeat it for more."
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Return only documents with at least this score, 0 to 1."),
    ] = None,
    drop_duplicates: DropDuplicates = False,
    token_budget: TokenBudget = None,
    cut_last: CutLast = False,
    served_name: Annotated[
        str | None, typer.Option(help="The model's name in requests and answers.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with aliases, limits and defaults. Options take precedence."
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the API keys that clients may send, one per line. The environment "
            "variable QWEN3_RERANKER_API_KEY holds another one."
        ),
    ] = None,
    allow_no_key: Annotated[
        bool,
        typer.Option(
            "--allow-no-key", help="Accept everyone, without an API key, on other networks, too."
        ),
    ] = False,
    max_body: Annotated[
        int | None, typer.Option(help="The maximum size of a request, in bytes. Default: 32 MiB.")
    ] = None,
    max_documents: Annotated[
        int | None,
        typer.Option(help="The maximum number of documents in a request. Default: 1000."),
    ] = None,
    max_characters: Annotated[
        int | None,
        typer.Option(help="The maximum number of characters in a request. Default: 5 million."),
    ] = None,
    max_active: Annotated[
        int | None, typer.Option(help="Score this many requests at a time. Default: 64.")
    ] = None,
    max_queue: Annotated[
        int | None,
        typer.Option(help="Let this many further requests wait, and refuse others. Default: 256."),
    ] = None,
    request_timeout: Annotated[
        float | None,
        typer.Option(
            help="The seconds within which a request must be answered. Default: 60. Without "
            "--timeout, a server has 0.9 of it, or 0.45 if there are others to try."
        ),
    ] = None,
    access_log: Annotated[
        Literal["json", "text", "none"],
        typer.Option(help="How each request is logged to standard output; never with its texts."),
    ] = "text",
    playground: Annotated[
        bool,
        typer.Option(
            "--playground", help=f"Offer the page of the command playground, too, at {PAGE}."
        ),
    ] = False,
    max_length: MaxLength = None,
    engine: Engine = "auto",
    engine_python: EnginePython = None,
    devices: Devices = None,
    check: Check = True,
    eager: Eager = False,
    **options: Any,
) -> None:
    """Run an HTTP server that speaks the rerank APIs of Jina, Cohere, TEI, vLLM and others."""
    from qwen3_reranker.gateway import GatewayConfig, create_app, read_config
    from qwen3_reranker.gateway.access_log import access_log as open_access_log
    from qwen3_reranker.gateway.keys import read_keys
    from qwen3_reranker.reranker import Reranker

    long_documents = pop_long_document_options(options)
    # After the gateway, whose message about a missing extra is the one to show.
    from qwen3_reranker.app_server import AppServer

    given = {
        "max_body": max_body,
        "max_documents": max_documents,
        "max_characters": max_characters,
        "max_active": max_active,
        "max_queue": max_queue,
        "request_timeout": request_timeout,
    }
    keys = read_keys(api_key_file)
    _require_key(host, has_keys=bool(keys), allow_none=allow_no_key)
    chosen = _merged(
        GatewayConfig() if config is None else read_config(config),
        served_name=served_name,
        instruction=instruction,
        min_score=min_score,
        selection=_selection(drop_duplicates, token_budget, cut_last),
        long_documents=long_documents,
        aliases=alias or (),
        limits=given,
    )
    if base_url:
        options.setdefault("timeout", _server_timeout(chosen.limits, len(base_url)))
    make = partial(
        Reranker,
        model,
        base_url=base_url,
        max_length=max_length,
        engine=engine,
        engine_args=engine_args(eager=eager),
        engine_python=engine_python,
        devices=devices,
        check=check,
        **without_unused_key(options, base_url, _KEY_VARIABLE),
    )
    with listen(host, port) as listener, ExitStack() as stack:
        address, number = listener.getsockname()[:2]
        failures: list[RerankerError] = []

        def fail(error: RerankerError) -> None:
            failures.append(error)
            server.stop()

        _log_to_stderr()
        app = create_app(
            make,
            replace(chosen, keys=keys),
            observers=stack.enter_context(open_access_log(access_log, sys.stdout)),
            on_failure=fail,
        )
        if playground:
            add_page(app, make, chosen.limits, page_messages(context), stack)

        def started() -> None:
            say(f"listening on {url_of(address, number)}")
            if playground:
                announce("the playground", host, number, PAGE)

        server = AppServer(app, listener, started)
        server.run_here()
    if failures:
        raise failures[0]


class _SayHandler(logging.Handler):
    """Prints log records as the command's other messages."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), "red" if record.levelno >= logging.ERROR else None)


def _log_to_stderr() -> None:
    """Print what this package logs, and the warnings of other libraries."""
    handler = _SayHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("qwen3_reranker").setLevel(logging.INFO)


def _require_key(host: str, *, has_keys: bool, allow_none: bool) -> None:
    """
    Check that only this machine can send requests without a key.

    Raises:
        InputError: Others can, and nobody said that they may.
    """
    if has_keys or allow_none or is_loopback(host):
        return
    raise InputError(
        f"host={host!r}: other machines could use this gateway without an API key. Set the "
        "environment variable QWEN3_RERANKER_API_KEY or give --api-key-file; or give "
        "--allow-no-key if the network is trusted"
    )


def _server_timeout(limits: Limits, servers: int) -> float:
    """Return the seconds for one server, after which a request has time left to try another one."""
    return 0.9 * limits.request_timeout / min(servers, 2)


def _selection(drop_duplicates: bool, token_budget: int | None, cut_last: bool) -> SelectionOptions:
    """Return the options for selection that were given; the others are those of the file."""
    given = SelectionOptions()
    if drop_duplicates:
        given["drop_duplicates"] = True
    if token_budget is not None:
        given["token_budget"] = token_budget
    if cut_last:
        given["cut_last"] = True
    return given


def _merged(
    config: GatewayConfig,
    *,
    served_name: str | None,
    instruction: str | None,
    min_score: float | None,
    selection: SelectionOptions,
    long_documents: dict[str, Any],
    aliases: Sequence[str],
    limits: dict[str, Any],
) -> GatewayConfig:
    """Return a configuration in which the options of the command replace what a file says."""
    from qwen3_reranker.gateway import AliasConfig

    own = AliasConfig(
        instruction=instruction,
        min_score=min_score,
        selection=selection,
        long_documents=long_documents,  # type: ignore[arg-type]
    )
    named = {}
    for text in aliases:
        name, equals, sentence = text.partition("=")
        if not equals or not name.strip() or not sentence.strip():
            raise InputError(f"--alias {text!r}: give NAME=INSTRUCTION")
        named[name.strip()] = AliasConfig(instruction=sentence.strip())
    given = {name: value for name, value in limits.items() if value is not None}
    assert given.keys() <= {limit.name for limit in fields(config.limits)}
    return replace(
        config,
        model=served_name or config.model,
        default=own.inherit(config.default),
        aliases={**config.aliases, **named},
        limits=replace(config.limits, **given),
    )
