"""
HTTP for servers: one POST or GET, its answer read as JSON, its failures told apart.

Knows no server's requests. What a failure means for the next attempt is said by its class:
`RetryableError` may be tried again, there or elsewhere; `TooLargeError` in smaller parts; any other
`ServerError` is final.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import orjson

from qwen3_reranker.errors import AnswerError, InputError, ServerError
from qwen3_reranker.redaction import Redactor, Secret
from qwen3_reranker.remote.responses import error_message, excerpt, is_too_large, retry_after

__all__ = ["MAX_ANSWER", "Read", "RetryableError", "TooLargeError", "Transport", "check_header"]

T = TypeVar("T")
Read = Callable[[Any], Any]
"""Reads what is wanted from a JSON answer; raises `AnswerError` where it is not there."""

MAX_ANSWER = 64 * 2**20
"""The most bytes of an answer that are read; eight times what a request may hold."""

_AGAIN = frozenset({408, 429, 502, 503, 504})


class RetryableError(ServerError):
    """
    A server failed in a way that may be temporary.

    Attributes:
        after: The seconds that the server asked to wait, from 0 to an hour; None if it did not ask.
        here: Whether the same server may be asked again for this request, or only another one.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        *,
        after: float | None = None,
        here: bool = True,
    ) -> None:
        super().__init__(message, status)
        self.after = after
        self.here = here

    @property
    def passing(self) -> bool:
        """Whether it is the server's state: no answer at all, or one that says to come again."""
        return self.status is None or self.status in _AGAIN

    @property
    def disconnected(self) -> bool:
        """Whether the connection was refused or lost, not merely slow: the server may restart."""
        return self.status is None and self.here


class TooLargeError(ServerError):
    """A request was too long, or held too many documents."""


class Transport:
    """
    One pool of kept-alive HTTP/1.1 connections; lives on the background loop.

    Args:
        headers: Sent with every request; their values are shown nowhere.
        verify: Whether certificates are checked; a path names a file with the authorities to
            trust, an `ssl.SSLContext` says all.
        proxy: The URL of a proxy; None takes that of the environment.
        max_connections: The most connections that are open at once.
        client: Used instead of an own one, and left open; it must not be used on another loop.

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
            raise InputError("headers= is no mapping: give a dict of names to values")
        self._headers = dict(headers or {})
        for name, value in self._headers.items():
            check_header(name, value, "headers=")
        self._own = client is None
        if not isinstance(verify, (bool, str, ssl.SSLContext)):
            raise InputError(f"verify={verify!r}: give True, False, a path or an ssl.SSLContext")
        if isinstance(verify, str):
            try:
                verify = ssl.create_default_context(cafile=verify)
            except OSError as error:  # ssl.SSLError is one too
                raise InputError(
                    f"verify={verify!r} is no file with certificate authorities: {error}"
                ) from None
        if proxy is not None and not isinstance(proxy.reveal(), str):
            raise InputError(f"proxy= is a {type(proxy.reveal()).__name__}: give a URL")
        try:
            self._client = client or httpx.AsyncClient(
                verify=verify,
                proxy=None if proxy is None else proxy.reveal(),
                timeout=None,  # noqa: S113  # the whole attempt is bounded instead, see _send
                limits=httpx.Limits(
                    max_connections=max_connections, max_keepalive_connections=max_connections
                ),
            )
        except ImportError as error:
            raise InputError(f"proxy= cannot be used: {error}") from None
        except (ValueError, TypeError, httpx.InvalidURL):
            # Neither its value nor httpx's message, which may hold a password.
            raise InputError(
                "proxy= cannot be used: give a URL like http://proxy:3128, with special characters "
                "of a user's name or a password percent-encoded"
            ) from None
        self._secrets = [*self._headers.values(), *_credentials(self._client, proxy)]
        self._redactors: dict[Secret | None, Redactor] = {}

    @property
    def sends_authorization(self) -> bool:
        """Whether the user's headers have an Authorization, in any case."""
        return any(name.lower() == "authorization" for name in self._headers)

    @property
    def has_credentials(self) -> bool:
        """Whether the user gave an Authorization header, or a client that sends one."""
        client = self._client
        return (
            self.sends_authorization or "authorization" in client.headers or client.auth is not None
        )

    async def post(
        self,
        url: str,
        body: Mapping[str, Any],
        *,
        authorization: Secret | None = None,
        seconds: float,
        read: Read | None = None,
    ) -> Any:
        """
        Return what `read` finds in the JSON answer to a body.

        A successful answer is read as it is. In every error "***" stands for the secrets that the
        answer repeats.

        Args:
            url: The URL.
            body: What is sent as JSON; entries that are None are left out.
            authorization: The value of an Authorization header.
            seconds: The time for all of it, connecting and reading included.
            read: Reads the answer; None returns all of it.

        Raises:
            AnswerError: `read` raised it.
            RetryableError: No connection, no answer in time, 408, 429, a 5xx, a broken body.
            TooLargeError: 413, or an error that says that the request is too long.
            ServerError: Any other error, with the server's own message.
        """
        content = orjson.dumps({name: value for name, value in body.items() if value is not None})
        return await self._send("POST", url, content, authorization, seconds, read)

    async def get(self, url: str, *, authorization: Secret | None = None, seconds: float) -> Any:
        """Return the JSON answer of a URL; arguments and errors are those of `post`."""
        return await self._send("GET", url, None, authorization, seconds)

    async def aclose(self) -> None:
        """Close the connections, unless the client was handed in."""
        if self._own:
            await self._client.aclose()

    def _redactor(self, authorization: Secret | None) -> Redactor:
        if authorization not in self._redactors:
            secrets = [*self._secrets, *([authorization] if authorization else [])]
            self._redactors[authorization] = Redactor(secrets)
        return self._redactors[authorization]

    def _request(
        self, method: str, url: str, content: bytes | None, authorization: Secret | None
    ) -> httpx.Request:
        own = {"Authorization": authorization} if authorization else {}
        headers = {"Content-Type": Secret("application/json"), **self._headers, **own}
        return self._client.build_request(
            method,
            url,
            content=content,
            headers={name: value.reveal() for name, value in headers.items()},
            timeout=None,  # of a client that was handed in: that of the whole attempt holds
        )

    async def _exchange(self, request: httpx.Request, redactor: Redactor) -> _Answer:
        # A redirect would take the key to whoever it names.
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            body = await _read(response)
        finally:
            await response.aclose()
        headers = response.headers
        return _Answer(
            response.status_code,
            redactor.text(response.reason_phrase),
            redactor.text(headers.get("location", "")),
            redactor.text(headers.get("server", "")),
            retry_after(headers.get("retry-after")),
            body,
        )

    async def _send(
        self,
        method: str,
        url: str,
        content: bytes | None,
        authorization: Secret | None,
        seconds: float,
        read: Read | None = None,
    ) -> Any:
        redactor = self._redactor(authorization)
        if self._client.is_closed:
            raise RetryableError(
                f"{url} cannot be asked, because http_client= has been closed: keep it open for "
                "as long as the reranker is used",
                here=False,
            )
        try:
            request = self._request(method, url, content, authorization)
            async with asyncio.timeout(seconds):
                answer = await _cancelled_once(self._exchange(request, redactor))
        except TimeoutError:
            raise RetryableError(
                f"{url} gave no answer within {seconds:.3g} s", here=False
            ) from None
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is no URL: {error}") from None
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            reason = redactor.text(str(error)) or type(error).__name__
            raise RetryableError(f"no connection to {url}: {reason}") from None
        except RuntimeError as error:  # httpx.StreamError; a client that is used on another loop
            reason = redactor.text(str(error)) or type(error).__name__
            raise RetryableError(f"the client failed on {url}: {reason}", here=False) from None
        try:
            return _parsed(answer, url, read, redactor)
        except ServerError as error:
            error.software = answer.software
            raise


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back; all but the body is redacted, which is None if it was too large to read."""

    status: int
    phrase: str
    location: str
    software: str
    retry_after: float | None
    body: bytes | None = field(repr=False)  # tracebacks with local variables show the repr


def _credentials(client: httpx.AsyncClient, proxy: Secret | None) -> list[Secret]:
    """Return what is secret in a client's own headers and in a proxy's URL."""
    secrets = [Secret(value) for name, value in client.headers.items() if name not in _USUAL]
    if proxy is not None and httpx.URL(proxy.reveal()).password:
        secrets.append(Secret(httpx.URL(proxy.reveal()).password))
    return secrets


# What httpx sends of its own accord.
_USUAL = frozenset({"accept", "accept-encoding", "connection", "user-agent"})


async def _cancelled_once(work: Coroutine[Any, Any, T]) -> T:
    """
    Await `work`, and cancel it once at most.

    Where two timeouts end together, a second cancellation would stop httpcore as it closes the
    connection for the first, and the connection would stay open and taken for ever.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _read(response: httpx.Response) -> bytes | None:
    """Return the body, None if it is larger than any scores are."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_ANSWER:
            return None
        parts.append(part)
    return b"".join(parts)


def _parsed(answer: _Answer, url: str, read: Read | None, redactor: Redactor) -> Any:
    """Return what is read from a JSON answer; raise what an error, or something else, means."""
    status = answer.status
    if answer.body is None:
        raise ServerError(
            f"{url} answered with more than {MAX_ANSWER >> 20} MiB, which no scores need: is this "
            "a reranker?",
            status,
        )
    if 200 <= status < 300:
        try:
            return _found(answer.body, read)
        except (ValueError, RecursionError):
            shown = excerpt(redactor.body(answer.body))
            raise RetryableError(
                f"{url} answered with something that is not JSON: {shown!r}", status
            ) from None
        except AnswerError as error:
            raise AnswerError(_unreadable(answer.body, read, redactor, error)) from None
    if 300 <= status < 400:
        raise ServerError(
            f"{url} redirects to {answer.location!r}; this is not followed, for the key would go "
            "there too. Give that address as base_url if it is meant",
            status,
        )
    reason = error_message(redactor.body(answer.body)) or answer.phrase
    message = f"{url} answered {status}: {reason}"
    if status in _AGAIN:
        raise RetryableError(message, status, after=answer.retry_after)
    if is_too_large(status, reason):
        raise TooLargeError(message, status)
    if status >= 500:
        raise RetryableError(message, status, here=False)
    if status in (401, 403):
        message += ". Give the right api_key="
    raise ServerError(message, status)


def _found(body: bytes, read: Read | None) -> Any:
    answer = json.loads(body)
    return answer if read is None else read(answer)


def _unreadable(body: bytes, read: Read | None, redactor: Redactor, error: AnswerError) -> str:
    """
    Return the message of an error about an answer, without the secrets that the message quotes.

    The message may end in the middle of a secret. So the answer is read once more, without them.
    """
    try:
        _found(redactor.strings(body), read)
    except AnswerError as redacted:
        error = redacted
    except (ValueError, RecursionError):
        return "the answer cannot be read, and is not shown because it repeats a secret"
    return redactor.text(str(error))


def check_header(name: object, value: Secret, source: str) -> None:
    """Raise `InputError` unless a header can be sent; `source` says where its value came from."""
    known = isinstance(name, str) and _NAME.fullmatch(name)
    if not (known and isinstance(value.reveal(), str) and _VALUE.fullmatch(value.reveal())):
        raise InputError(
            f"the header {name!r} cannot be sent: give a str of printable ASCII characters, "
            f"without blanks around it, in {source}"
        )


_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")
