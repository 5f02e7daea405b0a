"""
The frames that the package and its engine process exchange over a socket pair.

A frame is a fixed header, a JSON object (the head) and raw bytes (the body), which hold numbers
in the machine's own byte order: both ends run on one machine. Nothing is pickled.

| frame | sent by | head | body |
|---|---|---|---|
| hello | engine | protocol, vllm, device, memory | |
| start | package | id, args, environment | |
| encode | package | id, count | the prompts' lengths, then their token ids (uint32) |
| abort | package | id | |
| reset_prefix_cache, stats | package | id | |
| ready | engine | id, max_model_len, dtype | |
| result | engine | id; for encode width; for stats requests | the logits (float64) |
| failed | engine | id, or none if the engine is lost; error | |
| log | engine | stage, vllm; or neither, as a sign of life | |

The engine process loads this file by its path, under an interpreter that need not have this
package: it uses the standard library alone, and runs on every Python that a supported vLLM has.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

__all__ = [
    "VERSION",
    "Decoder",
    "Frame",
    "ProtocolError",
    "frame",
    "pack_prompts",
    "unpack_prompts",
    "unpack_rows",
]

VERSION = 1
_HEADER = struct.Struct("=4sIQ")
_MAGIC = b"Q3R1"
_MAX_HEAD = 2**24
_MAX_BODY = 2**32


class ProtocolError(Exception):
    """The bytes received are not frames of this protocol."""


class Frame(NamedTuple):
    """A decoded frame."""

    head: dict[str, Any]
    body: bytes


def frame(head: dict[str, Any], body: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    encoded = json.dumps(head).encode()
    return _HEADER.pack(_MAGIC, len(encoded), len(body)) + encoded + body


class Decoder:
    """Turns received bytes, cut anywhere, back into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """
        Yield the frames that `data` completes.

        Raises:
            ProtocolError: The bytes are not a frame.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            magic, head_size, body_size = _HEADER.unpack_from(self._buffer)
            if magic != _MAGIC or head_size > _MAX_HEAD or body_size > _MAX_BODY:
                raise ProtocolError(f"received what is no frame: {bytes(self._buffer[:40])!r}")
            body_start = _HEADER.size + head_size
            end = body_start + body_size
            if len(self._buffer) < end:
                return
            encoded = bytes(self._buffer[_HEADER.size : body_start])
            body = bytes(self._buffer[body_start:end])
            del self._buffer[:end]
            yield Frame(_head(encoded), body)


def _head(encoded: bytes) -> dict[str, Any]:
    try:
        head = json.loads(encoded)
    except ValueError as error:
        raise ProtocolError(f"received a frame whose head is no JSON: {encoded[:40]!r}") from error
    if not isinstance(head, dict) or "type" not in head:
        raise ProtocolError(f"received a frame without a type: {encoded[:40]!r}")
    return head


def pack_prompts(prompts: Sequence[Sequence[int]]) -> bytes:
    """Return the body of an encode frame."""
    ids = array("I", map(len, prompts))
    for prompt in prompts:
        ids.extend(prompt)
    return ids.tobytes()


def unpack_prompts(body: bytes, count: int) -> list[list[int]]:
    """Return the prompts of an encode frame's body."""
    ids = array("I", body).tolist()
    prompts = []
    start = count
    for length in ids[:count]:
        prompts.append(ids[start : start + length])
        start += length
    return prompts


def unpack_rows(body: bytes, width: int) -> list[list[float]]:
    """Return the logits of a result frame's body: one list per prompt."""
    values = array("d", body).tolist()
    return [values[start : start + width] for start in range(0, len(values), width)]
