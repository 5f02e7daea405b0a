"""
The frames that the package and its engine process exchange over a socket pair.

A frame consists of a fixed header, a JSON object (the head) and raw bytes (the body). The body
holds numbers in the machine's own byte order, since both ends run on the same machine. Nothing is
pickled.

| frame | sent by | head | body |
|---|---|---|---|
| hello | engine | protocol, vllm, device, memory, can_compile | |
| start | package | id, args, environment, processes | |
| encode | package | id, count; trace_headers, if vLLM traces | lengths and token ids (uint32) |
| abort | package | id | |
| reset_prefix_cache, stats | package | id | |
| ready | engine | id, max_model_len, dtype | |
| result | engine | id; width (for encode); requests (for stats) | the logits (float64) |
| failed | engine | id, unless the engine itself failed; error | |
| log | engine | stage, vllm, can_compile; or none, as a sign of life | |

The engine process loads this file by its path, with an interpreter that need not have this package.
So it uses only the standard library, and runs on every Python that a supported vLLM runs on.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

__all__ = [
    "CORES_VARIABLE",
    "GRACE",
    "VERSION",
    "Decoder",
    "Frame",
    "ProtocolError",
    "frame",
    "pack_prompts",
    "unpack_prompts",
    "unpack_rows",
]

VERSION = 2
GRACE = 5.0
"""The seconds that vLLM's worker processes (tensor parallelism) have to end by themselves."""
CORES_VARIABLE = "QWEN3_RERANKER_ENGINE_CORES"
"""The environment variable that tells an engine process which cores to use, as "0,1,2"."""
_HEADER = struct.Struct("=4sIQ")
_MAGIC = b"Q3R1"
_MAX_HEAD = 2**24
_MAX_BODY = 2**32


class ProtocolError(Exception):
    """The bytes received are not frames of this protocol."""


class Frame(NamedTuple):
    """
    A decoded frame.

    Attributes:
        head: The JSON object. Its "type" is always there.
        body: The raw bytes.
    """

    head: dict[str, Any]
    body: bytes


def frame(
    head: dict[str, Any], body: bytes = b"", *, default: Callable[[Any], Any] | None = None
) -> bytes:
    """
    Encode a frame.

    Args:
        head: The JSON object, with a "type".
        body: The raw bytes.
        default: Called with each value in the head that JSON cannot represent, to replace it.
    """
    encoded = json.dumps(head, default=default).encode()
    return _HEADER.pack(_MAGIC, len(encoded), len(body)) + encoded + body


class Decoder:
    """Decode frames from bytes that arrive in chunks of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """
        Add received bytes, and yield the frames that they complete.

        Args:
            data: The bytes.

        Raises:
            ProtocolError: The bytes are not a frame.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            magic, head_size, body_size = _HEADER.unpack_from(self._buffer)
            if magic != _MAGIC or head_size > _MAX_HEAD or body_size > _MAX_BODY:
                raise ProtocolError(
                    f"received bytes that are not a frame: {bytes(self._buffer[:40])!r}"
                )
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
        raise ProtocolError(f"received a frame whose head is not JSON: {encoded[:40]!r}") from error
    if not isinstance(head, dict) or "type" not in head:
        raise ProtocolError(f"received a frame without a type: {encoded[:40]!r}")
    return head


def pack_prompts(prompts: Sequence[Sequence[int]]) -> bytes:
    """
    Encode the body of an encode frame.

    Args:
        prompts: The token ids of each prompt.
    """
    ids = array("I", map(len, prompts))
    for prompt in prompts:
        ids.extend(prompt)
    return ids.tobytes()


def unpack_prompts(body: bytes, count: int) -> list[list[int]]:
    """
    Decode the body of an encode frame.

    Args:
        body: The body.
        count: The number of prompts.

    Returns:
        The token ids of each prompt, in order.
    """
    ids = array("I", body).tolist()
    prompts = []
    start = count
    for length in ids[:count]:
        prompts.append(ids[start : start + length])
        start += length
    return prompts


def unpack_rows(body: bytes, width: int) -> list[list[float]]:
    """
    Decode the body of a result frame.

    Args:
        body: The body.
        width: The number of logits per prompt.

    Returns:
        One list of logits per prompt, in order.
    """
    values = array("d", body).tolist()
    return [values[start : start + width] for start in range(0, len(values), width)]
