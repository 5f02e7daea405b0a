"""The options for servers, declared once for `Reranker`, both adapters, the doctor and the CLI."""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypedDict,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from qwen3_reranker.errors import InputError

if TYPE_CHECKING:
    from httpx import AsyncClient

    from qwen3_reranker.dialects import Dialect
else:  # this module is imported where no server is used, too
    AsyncClient = Dialect = Any

__all__ = [
    "ConnectionOptions",
    "Option",
    "ServerOptions",
    "declared",
    "document_connection",
    "document_options",
    "resolve_options",
]

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Option:
    """
    What the declaration of an option says besides its type.

    Attributes:
        default: The value of an option that is not given.
        above: The bound of a number, which is not allowed itself.
        hidden: Whether it may hold a secret, and so is left out of reprs and dumps.
        opaque: Whether it may be an object that JSON cannot represent.
    """

    default: Any = None
    above: int | None = None
    hidden: bool = False
    opaque: bool = False


class ConnectionOptions(TypedDict, total=False):
    """
    How a server is reached, and how requests to it are written.

    Attributes:
        api_key: Sent as a bearer token. None reads the environment variable that is usual for
            the dialect (VLLM_API_KEY, SILICONFLOW_API_KEY, ...), unless `headers` or
            `http_client` have an Authorization header. The key of a hosted service is sent only
            to its own hosts and over https, any other key only to this machine and to private
            networks.
        dialect: The server's protocol: "auto" (the default) detects it; otherwise a name, such as
            "vllm-classify", or a `Dialect`.
        template: Who writes the Qwen3 prompt template: "client", "server", or "auto" (the default)
            to detect it. If both `dialect` and `template` are given, the server is not probed
            unless the tokens that it counts contradict `template`, which raises `DetectionError`.
        tokenizer: The model's tokenizer, used to send token ids and to truncate long documents: a
            tokenizer.json, a folder or a hub name. None uses the tokenizer of `model`, or of the
            model that the server reports, if it is on this machine.
        timeout: The seconds that one server may take for a call, above 0 (default 60). This
            includes detection, retries and the splitting of requests that are too large, but not
            the wait for a free connection. Each of several servers has the full time, and so has
            each of the requests that a large call is divided into.
        headers: HTTP headers to send with every request.
        verify: Whether to verify TLS certificates (default True), the path of a file with
            certificate authorities, or an `ssl.SSLContext`.
        proxy: The URL of a proxy. None uses the proxy that the environment names.
    """

    api_key: Annotated[str | None, Option(hidden=True)]
    dialect: Annotated[str | Dialect, Option("auto", opaque=True)]
    template: Annotated[Literal["auto", "client", "server"], Option("auto")]
    tokenizer: Annotated[str | None, Option()]
    timeout: Annotated[float, Option(60.0, above=0)]
    headers: Annotated[Mapping[str, str] | None, Option(hidden=True)]
    verify: Annotated[bool | str | ssl.SSLContext, Option(default=True, hidden=True, opaque=True)]
    proxy: Annotated[str | None, Option(hidden=True)]


class ServerOptions(ConnectionOptions, total=False):
    """
    The options for `base_url`, which `Reranker` and both adapters take as keyword arguments.

    They are those of `ConnectionOptions` (`api_key`, `dialect`, `template`, ...) and these:

    Attributes:
        max_concurrency: The maximum number of requests, and of connections, at a time (default
            32).
        max_retries: How many times a failed request is sent again to each server, if the failure
            is likely to pass: no connection, status 408, 429, 502, 503 or 504, or a broken body
            (default 3).
        http_client: Custom `httpx.AsyncClient`. It is not closed by the reranker, and must not be
            shared between rerankers.
        on_unsupported: What to do about a request that the server cannot fully serve: "warn" (the
            default) issues a `RerankerWarning` once, "raise" raises `UnsupportedFeatureError`.
            Such a request has an instruction that the server's template does not read or, where
            there is no tokenizer, a `max_length` or a document that the server may truncate
            silently.
    """

    max_concurrency: Annotated[int, Option(32, above=0)]
    max_retries: Annotated[int, Option(3, above=-1)]
    http_client: Annotated[AsyncClient | None, Option(hidden=True, opaque=True)]
    on_unsupported: Annotated[Literal["warn", "raise"], Option("warn")]


def declared(options: type) -> dict[str, tuple[Any, Option]]:
    """Return the annotation and the `Option` of each key of a TypedDict such as `ServerOptions`."""
    hints = get_type_hints(options, include_extras=True)
    return {
        name: (hint, next(part for part in hint.__metadata__ if isinstance(part, Option)))
        for name, hint in hints.items()
    }


def resolve_options(given: Mapping[str, Any], options: type = ServerOptions) -> dict[str, Any]:
    """
    Check the options that were given, and add the defaults of the others.

    Args:
        given: The options by name.
        options: The TypedDict that declares them.

    Raises:
        InputError: A number is out of range or not a number, or a choice is unknown.
        TypeError: An option has an unknown name.
    """
    known = declared(options)
    if unknown := [f"{name}=" for name in given if name not in known]:
        raise TypeError(f"unexpected keyword argument {', '.join(unknown)}")
    for name, value in given.items():
        _check(name, value, *known[name])
    return {name: option.default for name, (_, option) in known.items()} | dict(given)


def document_options(
    documented: D, options: Sequence[type] = (ConnectionOptions, ServerOptions)
) -> D:
    """
    Replace the entry for `**server` in a docstring by one for each of `ServerOptions`.

    The entries are those of the docstrings above, so that `help()` shows them in full.

    Args:
        documented: The class or function.
        options: The TypedDicts whose entries to show, in order.
    """
    if documented.__doc__ is not None:  # it is in `python -OO`
        entries = "\n".join(map(_attributes, options))
        entry = re.compile(r"^( +)\*\*server: .*\n(?:\1 +\S.*\n)*", re.MULTILINE)
        documented.__doc__ = entry.sub(lambda found: _indent(entries, found[1]), documented.__doc__)
    return documented


document_connection = partial(document_options, options=(ConnectionOptions,))
"""Like `document_options`, for a function that takes only `ConnectionOptions`."""


def _attributes(options: type) -> str:
    """Return the entries of a docstring's last section, without their indentation."""
    return inspect.cleandoc((options.__doc__ or "").partition("Attributes:\n")[2])


def _indent(text: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in text.splitlines())


def _check(name: str, value: Any, hint: Any, option: Option) -> None:
    kind = hint.__origin__
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise InputError(f"{name}={value!r}: give one of {', '.join(map(repr, get_args(kind)))}")
    if option.above is None:
        return
    number = isinstance(value, int) or (kind is float and isinstance(value, float))
    if not number or isinstance(value, bool) or not value > option.above:  # NaN is not above
        wanted = (
            f"a number of seconds above {option.above}"
            if kind is float
            else f"a whole number of at least {option.above + 1}"
        )
        raise InputError(f"{name}={value!r}: give {wanted}")
