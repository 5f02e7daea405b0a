"""The options for servers, declared once for `Reranker`, both adapters, the doctor and the CLI."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from qwen3_reranker.options import Option

if TYPE_CHECKING:
    from httpx import AsyncClient

    from qwen3_reranker.dialects import Dialect
else:  # this module is imported where no server is used, too
    AsyncClient = Dialect = Any

__all__ = ["ConnectionOptions", "ServerOptions"]


class ConnectionOptions(TypedDict, total=False):
    """
    How a server is reached, and how requests to it are written.

    Attributes:
        api_key: The server's API key, sent as a bearer token. None reads the environment variable
            that is usual for the dialect (VLLM_API_KEY, SILICONFLOW_API_KEY, ...), unless `headers`
            or `http_client` have an Authorization header. The key of a hosted service is sent only
            to its own hosts and over https, any other key only to this machine and to private
            networks.
        dialect: The server's protocol, by its name, such as "vllm-classify"; "auto" (the default)
            detects it. It may also be a `Dialect`.
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
        verify: Whether to verify TLS certificates (default True), or the path of a file with
            certificate authorities. It may also be an `ssl.SSLContext`.
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
