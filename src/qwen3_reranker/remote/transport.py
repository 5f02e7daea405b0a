"""Send HTTP requests over a pool of connections, without knowledge of rerank protocols."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, TypeVar

import anyio
import httpx
import orjson

from qwen3_reranker.errors import InputError, ServerError
from qwen3_reranker.redaction import Redactor, Secret
from qwen3_reranker.remote.responses import (
    MAX_RESPONSE,
    JsonResponse,
    RawResponse,
    RetryableError,
    UnreadableError,
    read_json,
    retry_after,
)
from qwen3_reranker.tracing import trace_headers

__all__ = ["Transport", "check_header"]

T = TypeVar("T")

# Headers that httpx sends by default.
_DEFAULT_HEADERS = frozenset({"accept", "accept-encoding", "connection", "user-agent"})
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")
# Headers of a request that `auth=` and the cookie jar of an `httpx.AsyncClient` set.
_CREDENTIAL_HEADERS = ("authorization", "cookie")
# After how many seconds an idle connection is closed. uvicorn 0.54, under which vLLM, SGLang and
# many gateways run, closes it after 5, and a request at that moment would meet a lost connection.
_KEEPALIVE = 4.0
# The environment variables from which httpx 0.28.1 reads certificate authorities.
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class Transport:
    """
    A pool of persistent HTTP/1.1 connections. It is used on the package's event loop only.

    Args:
        headers: Headers to send with every request. Their values are never shown.
        verify: Whether to verify TLS certificates; or the path of a file with certificate
            authorities; or an `ssl.SSLContext`.
        proxy: The URL of a proxy. None uses the proxy that the environment names, if any.
        max_connections: The maximum number of requests, and of open connections, at a time.
        client: Custom `httpx.AsyncClient`. It is not closed, and must not be used on another event
            loop. `verify` and `proxy` do not apply to it.

    Raises:
        InputError: An argument cannot be used.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, Secret] | None = None,
        verify: bool | str | ssl.SSLContext = True,
        proxy: Secret | None = None,
        max_connections: int = 32,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        if not isinstance(headers, (Mapping, type(None))):
            raise InputError("headers= is not a mapping: give a dict of names to values")
        self._headers = dict(headers or {})
        for name, value in self._headers.items():
            check_header(name, value, "headers=")
        self._owns_client = client is None
        verify = _verification(verify)
        if not isinstance(client, (httpx.AsyncClient, type(None))):
            raise InputError(
                f"http_client= is a {type(client).__name__}: give an httpx.AsyncClient"
            )
        if proxy is not None and not isinstance(proxy.reveal(), str):
            raise InputError(f"proxy= is a {type(proxy.reveal()).__name__}: give a URL")
        try:
            self._client = client or httpx.AsyncClient(
                verify=verify,
                proxy=None if proxy is None else proxy.reveal(),
                timeout=None,  # noqa: S113  # attempts are bounded as a whole, not each read
                limits=httpx.Limits(
                    max_connections=max_connections,
                    max_keepalive_connections=max_connections,
                    keepalive_expiry=_KEEPALIVE,
                ),
            )
        except ImportError as error:
            raise InputError(f"proxy= cannot be used: {error}") from None
        except (ValueError, TypeError, httpx.InvalidURL):
            # Show neither the value nor httpx's message: both may contain a password.
            raise InputError(
                "proxy= cannot be used: give a URL like http://proxy:3128, with special characters "
                "in the user name and the password percent-encoded"
            ) from None
        self._free = asyncio.Semaphore(max_connections)
        self._secrets = [*self._headers.values(), *_credentials(self._client, proxy)]
        # Credentials may change with every request, as those of `httpx.DigestAuth` do.
        self._redactor = lru_cache(maxsize=8)(self._make_redactor)

    @property
    def sends_authorization(self) -> bool:
        """Whether `headers` contains an Authorization header."""
        return any(name.lower() == "authorization" for name in self._headers)

    @property
    def has_credentials(self) -> bool:
        """Whether the user gave an Authorization header, or a client that sends one."""
        client = self._client
        return (
            self.sends_authorization or "authorization" in client.headers or client.auth is not None
        )

    async def request(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        authorization: Secret | None = None,
        seconds: float | None = None,
    ) -> JsonResponse:
        """
        Send a request and return its JSON response.

        Redirects are not followed, because the API key would go with them. In error messages,
        secrets that the response repeats are replaced by "***". At most `max_connections` requests
        are sent at a time; others wait for one of them to end.

        Args:
            method: "GET" or "POST".
            url: The URL.
            body: The JSON body. Entries whose value is None are left out.
            authorization: The value of the Authorization header.
            seconds: The time limit for connecting, sending and reading together, in seconds,
                without the wait for other requests. None leaves the limit to the caller.

        Raises:
            RetryableError: There was no connection or no response in time, the status was 408, 429
                or 5xx.
            UnreadableError: The body could not be decompressed, or was not JSON.
            TooLargeError: The status was 413, or the error says that the request is too long.
            ServerError: Any other error status, with the server's message.
            InputError: `url` is not a URL.
        """
        if self._client.is_closed:
            raise RetryableError(
                f"{url} cannot be reached, because http_client= has been closed: keep it open for "
                "as long as the reranker is used",
                here=False,
            )
        content = None if body is None else _encode(body)
        try:
            request = self._build(method, url, content, authorization)
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is not a URL: {error}") from None
        await self._free.acquire()
        try:
            async with asyncio.timeout(seconds):
                response, redactor = await self._send(request)
        except TimeoutError:
            raise RetryableError(
                f"{url} gave no answer within {seconds:.3g} s", here=False
            ) from None
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            reason = self._reason(error, request)
            raise RetryableError(f"no connection to {url}: {reason}") from None
        except RuntimeError as error:  # httpx.StreamError; or a client of another event loop
            reason = self._reason(error, request)
            raise RetryableError(f"the client failed on {url}: {reason}", here=False) from None
        try:
            return read_json(response, url, redactor)
        except ServerError as error:
            error.software = response.software
            raise

    async def aclose(self) -> None:
        """Close the connections. A custom client stays open."""
        if self._owns_client:
            await self._client.aclose()

    def _make_redactor(self, sent: tuple[Secret, ...]) -> Redactor:
        """Return what removes all secrets, with those that a request was sent with."""
        return Redactor([*self._secrets, *sent])

    def _reason(self, error: Exception, request: httpx.Request) -> str:
        """Return the message of an error without secrets."""
        return self._redactor(_sent(request)).text(str(error)) or type(error).__name__

    def _build(
        self, method: str, url: str, content: bytes | None, authorization: Secret | None
    ) -> httpx.Request:
        own = {"Authorization": authorization} if authorization else {}
        headers = {"Content-Type": Secret("application/json"), **self._headers, **own}
        request = self._client.build_request(
            method,
            url,
            content=content,
            headers={name: value.reveal() for name, value in headers.items()},
            timeout=None,  # replaces the timeout of a custom client
        )
        for name, value in trace_headers().items():
            request.headers.setdefault(name, value)  # the user's own headers come first
        return request

    async def _send(self, request: httpx.Request) -> tuple[RawResponse, Redactor]:
        """
        Do what `_exchange` does, in a task that ends in order if this call is canceled.

        httpcore 1.0.9 ends a connection inside an `anyio.CancelScope`, which shields it from other
        scopes, but not from `asyncio.Task.cancel()`: after that, the pool may count the connection
        as active forever. So a scope cancels the task, and no other cancellation can reach it.
        """
        scope = anyio.CancelScope()

        async def exchange() -> tuple[RawResponse, Redactor]:
            with scope:
                return await self._exchange(request)
            raise asyncio.CancelledError

        task = asyncio.create_task(exchange())
        task.add_done_callback(self._end)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            scope.cancel()
            raise

    def _end(self, exchange: asyncio.Task[tuple[RawResponse, Redactor]]) -> None:
        """Let another request begin, when one has ended or its connection was closed."""
        self._free.release()
        if not exchange.cancelled():
            exchange.exception()  # asyncio logs the error of a canceled request unless it is read

    async def _exchange(self, request: httpx.Request) -> tuple[RawResponse, Redactor]:
        """Send a request; return the response, and what removes secrets from its messages."""
        response = await self._client.send(request, stream=True, follow_redirects=False)
        redactor = self._redactor(_sent(response.request))
        try:
            body = await _read(response)
        except httpx.DecodingError as error:
            raise UnreadableError(
                f"{request.url} answered with a body that cannot be decompressed: "
                f"{redactor.text(str(error))}",
                response.status_code,
            ) from None
        finally:
            await response.aclose()
        headers = response.headers
        raw = RawResponse(
            response.status_code,
            redactor.text(response.reason_phrase),
            redactor.text(headers.get("location", "")),
            redactor.text(headers.get("server", "")),
            retry_after(headers.get("retry-after")),
            body,
        )
        return raw, redactor


def _verification(verify: bool | str | ssl.SSLContext) -> bool | ssl.SSLContext:
    """Return what httpx takes for the argument `verify`."""
    if not isinstance(verify, (bool, str, ssl.SSLContext)):
        raise InputError(f"verify={verify!r}: give True, False, a path or an ssl.SSLContext")
    if verify is True:
        return _default_context(*map(os.environ.get, _CERTIFICATE_VARIABLES))
    if isinstance(verify, str):
        try:
            return ssl.create_default_context(cafile=verify)
        except OSError as error:  # includes ssl.SSLError
            raise InputError(
                f"verify={verify!r} is not a file of certificate authorities: {error}"
            ) from None
    return verify


# Reading the certificate authorities takes 20 ms, so all transports share one context.
@cache
def _default_context(*_variables: str | None) -> ssl.SSLContext:
    """Return httpx's default context, which depends on `_CERTIFICATE_VARIABLES`."""
    return httpx.create_ssl_context()


def check_header(name: object, value: Secret, source: str) -> None:
    """
    Raise an error unless a header can be sent.

    Args:
        name: The name of the header.
        value: The value of the header.
        source: The argument or variable that the value came from, for the message.

    Raises:
        InputError: The name or the value cannot be sent.
    """
    valid_name = isinstance(name, str) and _HEADER_NAME.fullmatch(name)
    # Revealed in expressions only, so that no traceback shows the value.
    is_text = isinstance(value.reveal(), str)
    if not (valid_name and is_text and _HEADER_VALUE.fullmatch(value.reveal())):
        raise InputError(
            f"the header {name!r} cannot be sent: give a str of printable ASCII characters, "
            f"without leading or trailing spaces, in {source}"
        )


def _credentials(client: httpx.AsyncClient, proxy: Secret | None) -> list[Secret]:
    """Return the secrets in the headers of a client and in the URL of a proxy."""
    secrets = [
        Secret(value) for name, value in client.headers.items() if name not in _DEFAULT_HEADERS
    ]
    if proxy is not None and httpx.URL(proxy.reveal()).password:
        secrets.append(Secret(httpx.URL(proxy.reveal()).password))
    return secrets


def _sent(request: httpx.Request) -> tuple[Secret, ...]:
    """Return the credentials that a request was sent with, also those that a client has added."""
    values = [request.headers.get(name, "") for name in _CREDENTIAL_HEADERS]
    cookies = (cookie.partition("=")[2] for cookie in values[-1].split("; "))
    return tuple(Secret(value) for value in (*values, *cookies) if value)


def _encode(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps({name: value for name, value in body.items() if value is not None})


async def _read(response: httpx.Response) -> bytes | None:
    """Return the body; None if it is larger than `MAX_RESPONSE`."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_RESPONSE:
            return None
        parts.append(part)
    return b"".join(parts)
