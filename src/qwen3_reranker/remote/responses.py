"""Read what servers say in the answers that are not scores: errors, pages, and when to come back."""

from __future__ import annotations

import html
import json
import math
import re
from email.utils import parsedate_to_datetime
from time import time

__all__ = ["error_message", "excerpt", "is_too_large", "retry_after"]

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
# Limits that smaller requests do not help with: of time, of credentials and of a vocabulary.
_RATE = re.compile(
    r"per (?:second|minute|hour|day|month)|\b(?:rate|quota|credits?|balance)\b"
    r"|\b(?:queue|age|expired|vocab(?:ulary)?|token ids?)\b",
    re.IGNORECASE,
)
# llama.cpp answers 500 to a prompt that is too long, in one of these forms. Others' 5xx are failures.
_LLAMA_CPP_TOO_LARGE = re.compile(
    r"is too large to process|larger than the max context size|exceeds the available context size"
)
_LONGEST_RETRY_AFTER = 3600.0


def is_too_large(status: int, reason: str) -> bool:
    """Return whether an error means that the request was too large, by its status and words."""
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
        return excerpt(body)
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


def excerpt(body: bytes) -> str:
    """Return the beginning of a body that is not JSON; of a page its title and text."""
    text = body[:20_000].decode(errors="replace")
    if "<html" in text[:1000].lower():
        text = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]*>", " ", text)
        text = html.unescape(text)
    return " ".join(text.split())[:300]


def retry_after(value: str | None) -> float | None:
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
