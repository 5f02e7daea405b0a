"""Links that restore what a user has entered."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import replace
from typing import NamedTuple

import orjson

from qwen3_reranker.errors import InputError
from qwen3_reranker.playground.inputs import Inputs

__all__ = ["MAX_LINK", "Link", "read_link", "write_link"]

MAX_LINK = 8000
"""The maximum number of characters of a link, which browsers, proxies and mail programs accept."""

# Inputs that take more memory cannot have been written here: a link compresses at most 1:1000.
_MAX_DATA = MAX_LINK * 1000
_KEY = "#inputs="


class Link(NamedTuple):
    """
    The end of a page's URL, from the number sign.

    Browsers leave it out of their requests, so it appears in no log. The page reads it and sends it
    to its own server, as it does with everything that is entered.

    Attributes:
        fragment: The inputs in a form that a URL can hold.
        complete: Whether it has all inputs. Otherwise the documents are missing, because the link
            would be longer than `MAX_LINK`.
    """

    fragment: str
    complete: bool


def write_link(inputs: Inputs) -> Link:
    """
    Return the link for a page's inputs.

    Raises:
        InputError: It would be too long even without the documents.
    """
    fragment = _encode(inputs)
    if len(fragment) <= MAX_LINK:
        return Link(fragment, complete=True)
    fragment = _encode(replace(inputs, text="", file=None, field=""))
    if len(fragment) > MAX_LINK:
        raise InputError(
            f"the link would have {len(fragment)} characters, even without the documents, and "
            f"links of more than {MAX_LINK} do not work everywhere: shorten the query or the "
            "instruction"
        )
    return Link(fragment, complete=False)


def read_link(fragment: str) -> Inputs | None:
    """
    Return the inputs in a link; None if it has none.

    Args:
        fragment: The end of the page's URL, from the number sign. It may come from anyone.

    Raises:
        InputError: The link is damaged.
    """
    if not fragment.startswith(_KEY):
        return None
    encoded = fragment.removeprefix(_KEY)
    try:
        packed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(packed, _MAX_DATA)
        if not unpacking.eof:
            raise InputError("it is cut off, or too large")
        return Inputs.from_dict(orjson.loads(data))
    except (ValueError, binascii.Error, zlib.error) as error:
        raise InputError(f"this link cannot be read: {error}") from None


def _encode(inputs: Inputs) -> str:
    data = json.dumps(inputs.to_dict(), ensure_ascii=False, separators=(",", ":"))
    packed = base64.urlsafe_b64encode(zlib.compress(data.encode("utf-8", "replace"), 9))
    return _KEY + packed.decode().rstrip("=")
