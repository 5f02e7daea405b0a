"""
HTTP for servers: one POST or GET, its answer read as JSON, its failures told apart.

Knows no server's requests. What a failure means for the next attempt is said by its class:
`RetryableError` may be tried again, there or elsewhere; `TooLargeError` in smaller parts; any other
`ServerError` is final.
"""

from __future__ import annotations

import asyncio
import html
import json
import math
import re
import ssl
from collections.abc import Coroutine, Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, TypeVar

import httpx
import orjson

from qwen3_reranker.errors import InputError, ServerError

__all__ = ["MAX_ANSWER", "RetryableError", "TooLargeError", "Transport"]

T = TypeVar("T")

MAX_ANSWER = 64 * 2**20
"""The most bytes of an answer that are read; eight times what a request may hold."""

_AGAIN = frozenset({408, 429, 502, 503, 504})
_REFUSED = frozenset({401, 402, 403, 404})  # an exceeded quota is no long request
# How servers say that a request is too long or holds too many documents; read in vLLM, SGLang, TEI,
# Infinity, DashScope and Cohere. What is exceeded has to be named in the same sentence: overloaded
# servers exceed deadlines, open files and recursion depths.
_EXCESS = r"too (?:long|large|many|big)|(?:long|larg)er than|exceed|max(?:imum)?\b|at most|less than|range of"
_UNIT = r"\b(?:tokens?|lengths?|batch(?:es)?|documents|items|characters|context size)\b"
_TOO_LARGE = re.compile(
    rf"(?:{_EXCESS})[^.\n]{{0,80}}{_UNIT}|{_UNIT}[^.\n]{{0,80}}(?:{_EXCESS})"
    r"|\b(?:inputs?|texts?|prompts?|query|documents?|sequences?)\b[^.\n]{0,40}\btoo (?:long|large|big)"
    r"|too many (?:inputs|texts|passages)",
    re.IGNORECASE,
)
# Limits that more time helps with, not smaller requests.
_RATE = re.compile(
    r"per (?:second|minute|hour|day|month)|\b(?:rate|quota|credits?|balance)\b", re.IGNORECASE
)
# llama.cpp answers 500 to a prompt that is too long, in one of these forms. Others' 5xx are failures.
_LLAMA_CPP_TOO_LARGE = re.compile(
    r"is too large to process|larger than the max context size|exceeds the available context size"
)
_LONGEST_RETRY_AFTER = 3600.0


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


class TooLargeError(ServerError):
    """A request was too long, or held too many documents."""


class Transport:
    """
    One pool of kept-alive HTTP/1.1 connections; lives on the background loop.

    Args:
        headers: Sent with every request.
        verify: Whether certificates are checked; a path names a file with the authorities to
            trust, an `ssl.SSLContext` says all.
        proxy: The URL of a proxy; None takes that of the environment.
        max_connections: The most connections that are open at once.
        client: Used instead of an own one, and left open; it must not be used on another loop.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        verify: bool | str | ssl.SSLContext = True,
        proxy: str | None = None,
        max_connections: int = 32,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._headers = dict(headers or {})
        _check_headers(self._headers)
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
        if not isinstance(proxy, (str, type(None))):
            raise InputError(f"proxy= is a {type(proxy).__name__}: give a URL")
        try:
            self._client = client or httpx.AsyncClient(
                verify=verify,
                proxy=proxy,
                timeout=None,  # noqa: S113  # the whole attempt is bounded instead, see _send
                limits=httpx.Limits(
                    max_connections=max_connections, max_keepalive_connections=max_connections
                ),
            )
        except (ValueError, TypeError, ImportError, httpx.InvalidURL) as error:
            # Not its value, which may hold a password.
            raise InputError(f"proxy= cannot be used: {error}") from None

    async def post(
        self, url: str, body: Mapping[str, Any], *, auth: str | None = None, seconds: float
    ) -> Any:
        """
        Return the JSON answer to `body`, whose None values are left out.

        Args:
            url: Where to.
            body: What.
            auth: The value of an Authorization header; never shown.
            seconds: The time for all of it, connecting and reading included.

        Raises:
            RetryableError: No connection, no answer in time, 408, 429, 500 to 504, a broken body.
            TooLargeError: 413, or an error that says that the request is too long.
            ServerError: Any other error, with the server's own message.
        """
        content = orjson.dumps({name: value for name, value in body.items() if value is not None})
        return await self._send("POST", url, content, auth, seconds)

    async def get(self, url: str, *, auth: str | None = None, seconds: float) -> Any:
        """Return the JSON answer; raises as `post` does."""
        return await self._send("GET", url, None, auth, seconds)

    def hide(self, text: str, auth: str | None) -> str:
        """Return `text` without what is secret; a server may repeat what it was sent."""
        secrets = [auth, *self._headers.values()]
        return _hide(text, [secret for secret in secrets if secret])

    async def aclose(self) -> None:
        """Close the connections, unless the client was handed in."""
        if self._own:
            await self._client.aclose()

    async def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        # A redirect would take the key to whoever it names.
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            return response, await _read(response)
        finally:
            await response.aclose()

    async def _send(
        self, method: str, url: str, content: bytes | None, auth: str | None, seconds: float
    ) -> Any:
        headers = {"Content-Type": "application/json", **self._headers}
        if auth:
            headers["Authorization"] = auth
        _check_headers(headers)
        try:
            # A client that was handed in may have a timeout of its own: this one's holds.
            request = self._client.build_request(
                method, url, content=content, headers=headers, timeout=None
            )
            if self._client.is_closed:
                raise RetryableError(
                    f"{url} cannot be asked, because http_client= has been closed: keep it open "
                    "for as long as the reranker is used",
                    here=False,
                )
            async with asyncio.timeout(seconds):
                response, body = await _cancelled_once(self._exchange(request))
        except TimeoutError:
            raise RetryableError(
                f"{url} gave no answer within {seconds:.3g} s", here=False
            ) from None
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is no URL: {error}") from None
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            reason = self.hide(str(error), auth) or type(error).__name__
            raise RetryableError(f"no connection to {url}: {reason}") from None
        except RuntimeError as error:  # httpx.StreamError; a client that is used on another loop
            reason = self.hide(str(error), auth) or type(error).__name__
            raise RetryableError(f"the client failed on {url}: {reason}", here=False) from None
        try:
            return _answer(response, url, body)
        except ServerError as error:
            error.args = (self.hide(str(error), auth), *error.args[1:])
            raise


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


async def _read(response: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_ANSWER:
            raise ServerError(
                f"{response.url} answered with more than {MAX_ANSWER >> 20} MiB, which no scores "
                "need: is this a reranker?",
                response.status_code,
            )
        parts.append(part)
    return b"".join(parts)


def _answer(response: httpx.Response, url: str, body: bytes) -> Any:
    status = response.status_code
    if 200 <= status < 300:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise RetryableError(
                f"{url} answered with something that is not JSON: {_excerpt(body)!r}", status
            ) from None
    if 300 <= status < 400:
        raise ServerError(
            f"{url} redirects to {response.headers.get('location')!r}; this is not followed, for "
            "the key would go there too. Give that address as base_url if it is meant",
            status,
        )
    reason = error_message(body) or response.reason_phrase
    message = f"{url} answered {status}: {reason}"
    if status in _AGAIN:
        raise RetryableError(
            message, status, after=_retry_after(response.headers.get("retry-after"))
        )
    if _is_too_large(status, reason):
        raise TooLargeError(message, status)
    if status >= 500:
        raise RetryableError(message, status, here=False)
    if status in (401, 403):
        message += ". Give the right api_key="
    raise ServerError(message, status)


def _is_too_large(status: int, reason: str) -> bool:
    if status >= 500:
        return _LLAMA_CPP_TOO_LARGE.search(reason) is not None
    if status == 413:
        return True
    named = _TOO_LARGE.search(reason) is not None and _RATE.search(reason) is None
    return named and status not in _REFUSED


def error_message(body: bytes) -> str:
    """Return the message in an error's body, whichever of the known shapes it has."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return _excerpt(body)
    for _ in range(4):
        if isinstance(found, list) and found:
            found = found[0]
        elif isinstance(found, dict):
            key = next((k for k in _MESSAGE_KEYS if found.get(k)), None)
            place = found.get("loc")
            if key == "msg" and isinstance(place, list):  # FastAPI's validation errors
                found = f"{found['msg']} ({'.'.join(map(str, place))})"
            else:
                found = found[key] if key else json.dumps(found, ensure_ascii=False)
        else:
            break
    return str(found)[:1000]


_MESSAGE_KEYS = ("error", "message", "detail", "errors", "msg", "error_message", "error_type")


def _excerpt(body: bytes) -> str:
    """Return the beginning of a body that is not JSON; of a page its title and text."""
    text = body[:20_000].decode(errors="replace")
    if "<html" in text[:1000].lower():
        text = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]*>", " ", text)
        text = html.unescape(text)
    return " ".join(text.split())[:300]


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header (a number, or a date) asks for, bounded."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), _LONGEST_RETRY_AFTER)


def _check_headers(headers: Mapping[str, Any]) -> None:
    for name, value in headers.items():
        if not (_NAME.fullmatch(name) and isinstance(value, str) and _VALUE.fullmatch(value)):
            raise InputError(
                f"the header {name!r} cannot be sent: give a str of printable ASCII characters, "
                "without blanks around it, in api_key= or headers="
            )


_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"(?:[!-~](?:[ -~\t]*[!-~])?)?")


def _hide(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        for part in (secret, secret.rpartition(" ")[2]):
            if len(part) > 3:
                text = text.replace(part, "***")
    return text
