"""How servers are reached: the options of `Reranker(base_url=...)` and of both adapters."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import httpx

from qwen3_reranker.dialects import Dialect
from qwen3_reranker.errors import InputError
from qwen3_reranker.remote.detection import Template

__all__ = ["ServerOptions", "check_choice", "check_number"]


class ServerOptions(TypedDict, total=False):
    """
    How servers are reached.

    Attributes:
        api_key: Sent as a bearer token. None takes the environment variable that is usual for
            the dialect (VLLM_API_KEY, SILICONFLOW_API_KEY, ...), unless `headers` or
            `http_client` have an Authorization. A hosted service's key goes to its own hosts
            alone, over https; other keys go to this machine and to private networks alone.
        dialect: The server's protocol: "auto" detects it, otherwise a name or a `Dialect`.
        template: Who writes the Qwen3 template: "client", "server", or "auto" to detect it. If both
            `dialect` and `template` are given nothing is probed, unless the tokens that the server
            counts contradict `template`; that ends in a `DetectionError`.
        tokenizer: The model's tokenizer, to send token ids and to cut what is too long: a
            tokenizer.json, a folder, a hub name. None takes the one of `model` or of the served
            model if it lies on this machine.
        timeout: The seconds that one server may take for a call, above 0: detection, retries and
            the halving of requests that are too large included. Several servers may take that
            long each. The wait for a free connection does not count, and each of the requests
            that a large call is split into has the time for itself.
        max_concurrency: The most requests, and connections, at a time.
        max_retries: How often a request is sent again, to each server, after a failure that may
            pass: no connection, 408, 429, 502, 503, 504, a broken body.
        headers: Sent with every request.
        verify: Whether TLS certificates are checked; or the path of a file with certificate
            authorities; or an `ssl.SSLContext`.
        proxy: The URL of a proxy; None takes the environment's.
        http_client: Custom `httpx.AsyncClient`. Not closed by the reranker; must not be shared
            between rerankers.
        on_unsupported: What to do about a request that the server cannot fully serve: "warn" once,
            or "raise" an `UnsupportedFeatureError`. This concerns an instruction that its template
            does not read, and without a tokenizer a `max_length`, and a document that it may cut
            without saying so.
    """

    api_key: str | None
    dialect: str | Dialect
    template: Template
    tokenizer: str | None
    timeout: float
    max_concurrency: int
    max_retries: int
    headers: Mapping[str, str] | None
    verify: bool | str | ssl.SSLContext
    proxy: str | None
    http_client: httpx.AsyncClient | None
    on_unsupported: Literal["warn", "raise"]


def check_number(name: str, value: object, above: float, wanted: str) -> None:
    """Raise `InputError` unless a setting is a number, whole if `wanted` says so, above a bound."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = wanted.startswith("a whole") and not isinstance(value, int)
    if not number or whole or not value > above:  # type: ignore[operator]  # a number by now
        raise InputError(f"{name}={value!r}: give {wanted}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise `InputError` unless a setting is one of its choices."""
    if value not in choices:
        raise InputError(f"{name}={value!r}: give one of {', '.join(map(repr, choices))}")
