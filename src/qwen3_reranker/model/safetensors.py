"""
Read and write the safetensors format with the standard library alone.

A file holds eight bytes of length, a JSON header, and the bytes of the tensors. A conversion
touches a few rows of files of many gigabytes, so only headers and single rows are ever read into
memory. A checkpoint of several files has an index that says which file holds which tensor.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from qwen3_reranker.errors import CheckpointError

__all__ = [
    "FLOATS",
    "INDEX",
    "SINGLE",
    "Tensor",
    "TensorWriter",
    "decode",
    "encode",
    "read_header",
    "read_tensors",
    "read_weight_map",
    "write_tensors",
]

INDEX = "model.safetensors.index.json"
"""The index of a checkpoint of several files."""

SINGLE = "model.safetensors"
"""The file of a checkpoint of one file."""

FLOATS = {"F32": 4, "F16": 2, "BF16": 2}
"""The dtypes that a head may have, with their bytes per number."""

# The format's own limit. Other files would announce headers of petabytes.
_LONGEST_HEADER = 100_000_000
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    The location of a tensor.

    Attributes:
        file: The file that holds it.
        name: Its name.
        dtype: Its dtype in the format's own spelling, such as "BF16".
        shape: Its dimensions.
        start: The position of its first byte in the file.
        size: Its length in bytes.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def rows(self, numbers: Sequence[int]) -> list[bytes]:
        """
        Read some rows of a matrix, and nothing else.

        Args:
            numbers: Row numbers, from 0.

        Returns:
            The bytes of each row, in the order of `numbers`.
        """
        width = self.size // self.shape[0]
        rows = []
        with self.file.open("rb") as file:
            for number in numbers:
                file.seek(self.start + number * width)
                rows.append(file.read(width))
        return rows


def read_weight_map(folder: Path) -> dict[str, str] | None:
    """
    Read which file holds which tensor from a checkpoint's index.

    Args:
        folder: The checkpoint's folder.

    Returns:
        The file name of each tensor's shard by tensor name; None if the folder has no index.

    Raises:
        CheckpointError: The index cannot be read, is not JSON, has no `weight_map`, or names
            anything but files of its own folder.
    """
    index = folder / INDEX
    if not index.is_file():
        return None
    try:
        content = json.loads(index.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{index} cannot be read: {error}") from error
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict):
        raise CheckpointError(
            f"{index} has no weight_map, which says which file holds which tensor"
        )
    for shard in shards.values():
        if not isinstance(shard, str) or shard in ("", ".", "..") or {*"/\\"} & {*shard}:
            raise CheckpointError(
                f"{index} names the shard {shard!r}, which is not a file in that folder: put all "
                "shards into the folder, and their plain names into the index"
            )
    return shards


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """
    Find the tensors of a checkpoint without reading them.

    Args:
        folder: The checkpoint's folder.

    Returns:
        All tensors by name: those of the files that the index names, or of all safetensors files
        if there is no index. Of a tensor that several files hold, the one that the index names.

    Raises:
        CheckpointError: There are no safetensors files, or a file or the index is broken or
            missing.
    """
    weight_map = read_weight_map(folder)
    if weight_map is None:
        files = sorted(folder.glob("*.safetensors"))
    else:
        files = [folder / name for name in sorted(set(weight_map.values()))]
    if not files:
        raise CheckpointError(f"{folder} contains no safetensors files")
    headers = {file.name: read_header(file) for file in files}
    tensors = {name: tensor for header in headers.values() for name, tensor in header.items()}
    for name, shard in (weight_map or {}).items():
        if name in headers[shard]:
            tensors[name] = headers[shard][name]
    return tensors


def read_header(path: Path) -> dict[str, Tensor]:
    """
    Find the tensors of one safetensors file without reading them.

    Args:
        path: The file.

    Returns:
        The tensors by name.

    Raises:
        CheckpointError: It cannot be read, is not a safetensors file, or is incomplete.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if (start + file.read(len(_LFS_POINTER) - 8)) == _LFS_POINTER:
                raise CheckpointError(
                    f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in its "
                    "folder"
                )
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(_LONGEST_HEADER, size - 8):
                raise CheckpointError(
                    f"{path} is not a safetensors file, or was cut off at its beginning"
                )
            file.seek(8)
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    try:
        tensors = {
            name: _tensor(path, name, entry, 8 + length)
            for name, entry in json.loads(header).items()
            if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error!r:.200}") from error
    end = max((tensor.start + tensor.size for tensor in tensors.values()), default=8 + length)
    if end != size:
        raise CheckpointError(
            f"{path} has {size} bytes, but its header announces {end}: the file is incomplete, "
            "download it again"
        )
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> None:
    """
    Write small tensors as a safetensors file, and flush it to the disk.

    Args:
        path: The file to create.
        tensors: The dtype, shape and bytes of each tensor by name.

    Raises:
        FileExistsError: The file exists.
    """
    layout = {name: (dtype, shape, len(data)) for name, (dtype, shape, data) in tensors.items()}
    with TensorWriter(path, layout) as writer:
        for name, (_, _, data) in tensors.items():
            writer.write(name, data)


class TensorWriter:
    """
    Write a safetensors file piece by piece, and flush it to the disk.

    Args:
        path: The file to create.
        layout: The dtype, shape and number of bytes of each tensor by name, in the order in which
            the file holds them. Loaders map the file into memory, so tensors of larger numbers
            should come first: a tensor must start at a multiple of the size of its numbers.

    Raises:
        FileExistsError: The file exists.
    """

    def __init__(self, path: Path, layout: Mapping[str, tuple[str, Sequence[int], int]]) -> None:
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self._next: dict[str, int] = {}
        self._end: dict[str, int] = {}
        offset = 0
        for name, (dtype, shape, size) in layout.items():
            offsets = [offset, offset + size]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
            self._next[name], self._end[name] = offsets
            offset += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._file = path.open("xb")
        self._data = self._file.write(struct.pack("<Q", len(text)) + text)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """
        Write the next bytes of a tensor. The tensors may take turns.

        Args:
            name: The name of the tensor.
            data: Its next bytes.

        Raises:
            ValueError: The tensor has no room for so many bytes.
        """
        start = self._next[name]
        if start + len(data) > self._end[name]:
            raise ValueError(f"{name} is longer than its layout says")
        self._file.seek(self._data + start)
        self._file.write(data)
        self._next[name] = start + len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file as file:
            if kind is None:
                if self._next != self._end:
                    raise ValueError("the tensors are shorter than their layout says")
                file.flush()
                os.fsync(file.fileno())


def decode(data: bytes, dtype: str) -> list[float]:
    """
    Return the exact values of little-endian numbers.

    Args:
        data: The bytes.
        dtype: One of `FLOATS`.
    """
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
    tensor = Tensor(path, name, str(entry["dtype"]), tuple(shape), data + begin, end - begin)
    width = FLOATS.get(tensor.dtype)
    if width is not None and tensor.size != width * math.prod(tensor.shape):
        raise ValueError(name)
    return tensor
