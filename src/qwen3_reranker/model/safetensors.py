"""
The safetensors format: eight bytes of length, a JSON header, then the tensors' bytes.

Read and written here with nothing but the standard library, because a conversion touches a few
rows of a file of gigabytes: only the header and those rows are ever in memory.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_reranker.errors import CheckpointError

__all__ = ["FLOATS", "Tensor", "decode", "encode", "read_header", "write_tensors"]

FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
"""The dtypes that a head may have, with their bytes per number."""

# The format's own bound; a file that is none announces headers of petabytes.
_LONGEST_HEADER = 100_000_000
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: its file, dtype and shape, and its bytes from `start` on."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def rows(self, numbers: Sequence[int]) -> list[bytes]:
        """Return the bytes of some rows of a matrix; nothing else is read."""
        width = self.shape[1] * FLOATS[self.dtype]
        found = []
        with self.file.open("rb") as file:
            for number in numbers:
                file.seek(self.start + number * width)
                found.append(file.read(width))
        return found


def read_header(path: Path) -> dict[str, Tensor]:
    """
    Return the tensors of a safetensors file by name, without reading them.

    Raises:
        CheckpointError: It is none, or its end is missing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if (start + file.read(len(_POINTER) - 8)) == _POINTER:
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in its folder"
            )
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise CheckpointError(f"{path} is no safetensors file, or was cut off at its beginning")
        file.seek(8)
        try:
            entries = json.loads(file.read(length))
            tensors = {
                name: _tensor(path, name, entry, 8 + length)
                for name, entry in entries.items()
                if name != "__metadata__"
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} is no safetensors file: {error!r}") from error
    end = max((tensor.start + tensor.size for tensor in tensors.values()), default=8 + length)
    if end != size:
        raise CheckpointError(
            f"{path} has {size} bytes, and its header says {end}: load it again, it is not whole"
        )
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> None:
    """Write small tensors (name -> dtype, shape, bytes) as a safetensors file, to the disk."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [place, place + len(data)],
        }
        place += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def decode(data: bytes, dtype: str) -> list[float]:
    """Return the numbers of little-endian bf16, fp16 or fp32, exactly."""
    count = len(data) // FLOATS[dtype]
    if dtype == "F16":
        return list(struct.unpack(f"<{count}e", data))
    if dtype == "BF16":  # the upper half of an fp32
        wide = bytearray(4 * count)
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        data = bytes(wide)
    return list(struct.unpack(f"<{count}f", data))


def encode(numbers: Sequence[float]) -> bytes:
    """Return numbers as little-endian fp32, each rounded to the nearest."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _tensor(path: Path, name: str, entry: Mapping[str, object], data: int) -> Tensor:
    offsets, shape = entry["data_offsets"], entry["shape"]
    if not isinstance(offsets, list) or not isinstance(shape, list):
        raise TypeError(name)
    begin, end = map(int, offsets)
    found = Tensor(path, name, str(entry["dtype"]), tuple(shape), data + begin, end - begin)
    width = FLOATS.get(found.dtype)
    if width is not None and found.size != width * math.prod(found.shape):
        raise ValueError(name)
    return found
