"""Interpret error responses: the message, whether the request was too large, when to try again."""

from __future__ import annotations

import html
import json
import math
import re
from email.utils import parsedate_to_datetime
from time import time

__all__ = ["error_message", "excerpt", "is_too_large", "retry_after"]

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
    """Return the message in the body of an error response, in at most 1000 characters."""
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
    return str(message)[:1000]


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
        The delay in seconds, from 0 to 3600; None if there is none.
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
    return None if math.isnan(seconds) else min(max(0.0, seconds), _LONGEST_RETRY_AFTER)
