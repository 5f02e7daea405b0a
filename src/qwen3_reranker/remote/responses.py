"""
Read JSON responses, and classify failures.

The class of an error says what to do next: a `RetryableError` may succeed on another attempt, a
`TooLargeError` in smaller requests, and any other `ServerError` is final.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, TypeVar

from qwen3_reranker.errors import AnswerError, ServerError
from qwen3_reranker.redaction import Redactor

__all__ = [
    "MAX_RESPONSE",
    "JsonResponse",
    "RawResponse",
    "RetryableError",
    "TooLargeError",
    "UnreadableError",
    "error_message",
    "excerpt",
    "is_absent",
    "is_key_refusal",
    "is_too_large",
    "read_json",
    "retry_after",
]

T = TypeVar("T")

MAX_RESPONSE = 64 * 2**20
"""The largest response body that is read, in bytes: eight times the largest request."""

# Status codes of a path that the server does not have, and of a request whose key it refuses.
_ABSENT = frozenset({404, 405})
_KEY_REFUSED = frozenset({401, 403})
# Status codes that ask the client to try again.
_TRANSIENT = frozenset({408, 429, 502, 503, 504})

# Status codes that never mean that a request is too large; 402 is an exceeded quota.
_REFUSED = frozenset({401, 402, 403, 404})
# Error messages about a request that is too long or has too many documents, as in vLLM, SGLang,
# TEI, Infinity, DashScope and Cohere. The same sentence must name what is exceeded, because
# overloaded servers exceed deadlines, open files and recursion depths.
_EXCESS = (
    r"too (?:long|large|many|big)|(?:long|larg)er than|exceed|max(?:imum)?\b|at most|less than"
    r"|range of"
)
_UNIT = r"\b(?:tokens?|lengths?|batch(?:es)?|documents|items|characters|context size)\b"
_TOO_LARGE = re.compile(
    rf"(?:{_EXCESS})[^.\n]{{0,80}}{_UNIT}|{_UNIT}[^.\n]{{0,80}}(?:{_EXCESS})"
    r"|\b(?:inputs?|texts?|prompts?|query|documents?|sequences?)\b[^.\n]{0,40}"
    r"\btoo (?:long|large|big)"
    r"|too many (?:inputs|texts|passages)",
    re.IGNORECASE,
)
# Limits that smaller requests do not help with: rates, credentials and vocabularies.
_RATE = re.compile(
    r"per (?:second|minute|hour|day|month)|\b(?:rate|quota|credits?|balance)\b"
    r"|\b(?:queue|age|expired|vocab(?:ulary)?|token ids?)\b",
    re.IGNORECASE,
)
# llama.cpp answers 500 with one of these messages if a prompt is too long. With other servers, a
# status of 5xx is a failure.
_LLAMA_CPP_TOO_LARGE = re.compile(
    r"is too large to process|larger than the max context size|exceeds the available context size"
)
_LONGEST_RETRY_AFTER = 3600.0
# Keys of error responses that hold the message, in order of preference.
_MESSAGE_KEYS = ("error", "message", "detail", "errors", "msg", "error_message", "error_type")


def is_absent(error: object) -> bool:
    """Return whether an error says that the server does not have a path."""
    return isinstance(error, ServerError) and error.status in _ABSENT


def is_key_refusal(error: object) -> bool:
    """Return whether an error says that the server refused the API key, or that one is missing."""
    return isinstance(error, ServerError) and error.status in _KEY_REFUSED


class RetryableError(ServerError):
    """
    A server failed in a way that may be temporary.

    Attributes:
        after: The delay that the server asked for, in seconds from 0 to 3600; None if it did not
            ask for one.
        here: Whether the same server may be tried again for this request. If not, only another
            server may.
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
    def cause(self) -> str:
        """What happened, without the server's own words, which may repeat what it was sent."""
        if self.status is not None:
            return f"status {self.status}"
        return "no connection" if self.here else "no answer"

    @property
    def transient(self) -> bool:
        """Whether the server is unavailable: it did not respond, or it asked to try again later."""
        return self.status is None or self.status in _TRANSIENT

    @property
    def disconnected(self) -> bool:
        """Whether the connection was refused or lost. The server may have been restarted."""
        return self.status is None and self.here


class UnreadableError(RetryableError):
    """The body of an answer cannot be decompressed or is not JSON, as with a gateway's page."""

    cause = "unreadable answer"


class TooLargeError(ServerError):
    """A request was too long, or contained too many documents."""


@dataclass(frozen=True, slots=True)
class JsonResponse:
    """
    The JSON body of a successful response.

    Attributes:
        value: The parsed body.
        url: The URL of the request.
        body: The body as received.
        redactor: Removes secrets from error messages.
    """

    # Tracebacks with local variables show the repr, and a response may repeat secrets.
    value: Any = field(repr=False)
    url: str = ""
    body: bytes = field(default=b"", repr=False)
    redactor: Redactor = field(default_factory=lambda: Redactor(()))

    def read(self, parse: Callable[[Any], T]) -> T:
        """
        Return what `parse` extracts from the parsed body.

        Args:
            parse: A pure function. It is called a second time if it fails and the body repeats a
                secret.

        Raises:
            AnswerError: `parse` raised it. Secrets in its message are replaced by "***".
            UnreadableError: `parse` raised a `ValueError` or a `RecursionError`.
        """
        try:
            return parse(self.value)
        except (ValueError, RecursionError):
            raise _not_json(self.url, self.body, self.redactor) from None
        except AnswerError as error:
            raise AnswerError(self._message(parse, error)) from None

    def _message(self, parse: Callable[[Any], T], error: AnswerError) -> str:
        """
        Return the message of `error` without secrets.

        Messages quote the beginning of a value, which may end in the middle of a secret. The body
        is therefore redacted first and parsed once more.
        """
        redacted = self.redactor.strings(self.body)
        if redacted != self.body:
            try:
                parse(json.loads(redacted))
            except AnswerError as second:
                error = second
            except (ValueError, RecursionError):
                return "the answer cannot be read, and is not shown because it repeats a secret"
        return self.redactor.text(str(error))


@dataclass(frozen=True, slots=True)
class RawResponse:
    """
    A response, redacted except for the body.

    Attributes:
        status: The status code.
        phrase: The reason phrase.
        location: The Location header; "" without one.
        software: The Server header; "" without one.
        retry_after: The delay that the server asked for, in seconds; None if it did not.
        body: The body; None if it was larger than `MAX_RESPONSE`.
    """

    status: int
    phrase: str
    location: str
    software: str
    retry_after: float | None
    body: bytes | None = field(repr=False)  # tracebacks with local variables show the repr


def read_json(response: RawResponse, url: str, redactor: Redactor) -> JsonResponse:
    """
    Parse a successful response, and raise an error for any other.

    Args:
        response: The response.
        url: The URL of the request.
        redactor: Removes secrets from error messages.

    Raises:
        RetryableError: The status is 408, 429 or 5xx.
        UnreadableError: The body is not JSON.
        TooLargeError: The status is 413, or the error says that the request is too long.
        ServerError: Any other error status, a redirect, or a body that is too large.
    """
    status = response.status
    if response.body is None:
        raise ServerError(
            f"{url} answered with more than {MAX_RESPONSE >> 20} MiB, which is more than any "
            "scores need: is this a reranker?",
            status,
        )
    if 200 <= status < 300:
        try:
            return JsonResponse(json.loads(response.body), url, response.body, redactor)
        except (ValueError, RecursionError):
            raise _not_json(url, response.body, redactor, status) from None
    if 300 <= status < 400:
        raise ServerError(
            f"{url} redirects to {response.location!r}, which is not followed because the API key "
            "would be sent there too. If that is the server, give its address as base_url",
            status,
        )
    reason = error_message(redactor.body(response.body)) or response.phrase
    message = f"{url} answered {status}: {reason}"
    if status in _TRANSIENT:
        raise RetryableError(message, status, after=response.retry_after)
    if is_too_large(status, reason):
        raise TooLargeError(message, status)
    if status >= 500:
        raise RetryableError(message, status, here=False)
    if status in _KEY_REFUSED:
        message += ". Give the right api_key="
    raise ServerError(message, status)


def _not_json(url: str, body: bytes, redactor: Redactor, status: int = 200) -> UnreadableError:
    shown = excerpt(redactor.body(body))
    return UnreadableError(f"{url} answered with something that is not JSON: {shown!r}", status)


def is_too_large(status: int, reason: str) -> bool:
    """
    Return whether an error means that the request was too large.

    Args:
        status: The status code.
        reason: The error message.
    """
    if status >= 500:
        return _LLAMA_CPP_TOO_LARGE.search(reason) is not None
    if status == 413:
        return True
    named = _TOO_LARGE.search(reason) is not None and _RATE.search(reason) is None
    return named and status not in _REFUSED


def error_message(body: bytes) -> str:
    """
    Return the message in the body of an error response, in at most 1000 characters.

    Lone surrogates, which no file can store as UTF-8, are replaced by question marks.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return excerpt(body)
    for _ in range(4):  # levels of nesting
        if isinstance(message, list) and message:
            message = message[0]
        elif isinstance(message, dict):
            key = next((key for key in _MESSAGE_KEYS if message.get(key)), None)
            location = message.get("loc")
            if key == "msg" and isinstance(location, list):  # FastAPI's validation errors
                message = f"{message['msg']} ({'.'.join(map(str, location))})"
            else:
                message = message[key] if key else json.dumps(message, ensure_ascii=False)
        else:
            break
    return str(message)[:1000].encode(errors="replace").decode()


def excerpt(body: bytes) -> str:
    """Return the beginning of a body that is not JSON; for an HTML page, of its text."""
    text = body[:20_000].decode(errors="replace")
    if "<html" in text[:1000].lower():
        text = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]*>", " ", text)
        text = html.unescape(text)
    return " ".join(text.split())[:300]


def retry_after(value: str | None) -> float | None:
    """
    Return the delay that a Retry-After header asks for.

    Args:
        value: The value of the header: a number of seconds, or a date.

    Returns:
        The delay in seconds, from 0 to 3600; None if there is none, or if it is negative.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except (ValueError, OverflowError):
            return None
    return min(seconds, _LONGEST_RETRY_AFTER) if seconds >= 0 else None  # None for NaN, too
