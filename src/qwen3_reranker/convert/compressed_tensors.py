"""
Write quantized weights in the compressed-tensors format, which vLLM and others read.

The linear layers of the transformer blocks get eight-bit weights with one scale per output channel.
Their inputs are quantized by the engine, with one scale per token. Embeddings, norms and the head
keep their dtype. Read in compressed-tensors 0.17 and vLLM 0.27 to 0.33.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from qwen3_reranker.convert.quantize import NumberFormat, from_bytes, quantize_rows
from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.safetensors import FLOATS, Tensor, TensorWriter

__all__ = [
    "Layout",
    "check_weights",
    "format_of",
    "is_linear",
    "layout",
    "quantization_config",
    "read_back",
    "write_shard",
]

Layout = dict[str, tuple[str, tuple[int, ...], int]]
"""The dtype, shape and number of bytes of each tensor by name."""

_LINEAR = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight"
)
_DTYPES = {"int8": "I8", "fp8": "F8_E4M3"}
_TYPES = {"int8": "int", "fp8": "float"}
_BLOCK = 2**20  # the number of weights that are quantized at a time
_CHUNK = 8 * 2**20  # bytes


def quantization_config(number_format: NumberFormat) -> dict[str, Any]:
    """
    Return the `quantization_config` of a converted checkpoint's config.json.

    Args:
        number_format: The format of the weights and of the inputs of linear layers.
    """
    kind = _TYPES[number_format]
    numbers = {"num_bits": 8, "type": kind, "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**numbers, "strategy": "channel", "dynamic": False},
                "input_activations": {**numbers, "strategy": "token", "dynamic": True},
            }
        },
        # Without this, vLLM would take the head for a quantized one.
        "ignore": ["score"],
    }


def format_of(config: Mapping[str, Any]) -> NumberFormat | None:
    """
    Return the number format of a checkpoint that this package quantized; None for all others.

    Args:
        config: The content of its config.json.
    """
    found = config.get("quantization_config")
    return next(
        (name for name in get_args(NumberFormat) if quantization_config(name) == found), None
    )


def is_linear(tensor: Tensor) -> bool:
    """Return whether a tensor holds the weights of a linear layer that is quantized."""
    return _LINEAR.fullmatch(tensor.name) is not None


def check_weights(tensors: Iterable[Tensor]) -> None:
    """
    Check that a checkpoint has weights that can be quantized.

    Args:
        tensors: Its tensors.

    Raises:
        CheckpointError: It has no linear layers of Qwen3, or one that cannot be quantized.
    """
    linear = [tensor for tensor in tensors if is_linear(tensor)]
    if not linear:
        raise CheckpointError(
            "the checkpoint holds no weights named model.layers.0.self_attn.q_proj.weight and so "
            "on, so there is nothing to quantize"
        )
    for tensor in linear:
        if tensor.dtype not in FLOATS or len(tensor.shape) != 2 or not tensor.size:
            raise CheckpointError(
                f"{tensor.file}: {tensor.name} is {tensor.dtype} of shape {list(tensor.shape)}; "
                f"only matrices of {', '.join(FLOATS)} can be quantized"
            )


def layout(tensors: Iterable[Tensor], number_format: NumberFormat) -> Layout:
    """
    Return the layout of the tensors that are written for some tensors of the source.

    Args:
        tensors: The tensors of the source.
        number_format: The format of the quantized weights.
    """
    others: Layout = {}
    weights: Layout = {}
    for tensor in tensors:
        if is_linear(tensor):
            rows = tensor.shape[0]
            weights[tensor.name] = (
                _DTYPES[number_format],
                tensor.shape,
                math.prod(tensor.shape),
            )
            others[_scale(tensor.name)] = ("F32", (rows, 1), FLOATS["F32"] * rows)
        else:
            others[tensor.name] = (tensor.dtype, tensor.shape, tensor.size)
    # Loaders need each tensor at a multiple of the size of its numbers.
    by_width = sorted(others, key=lambda name: FLOATS.get(others[name][0], 8), reverse=True)
    return {name: others[name] for name in by_width} | weights


def write_shard(
    tensors: Mapping[str, Tensor],
    target: Path,
    number_format: NumberFormat,
    advance: Callable[[int], object],
) -> None:
    """
    Write a shard with quantized weights, reading one block of weights at a time.

    Args:
        tensors: The tensors of the source by name.
        target: The file to create.
        number_format: The format of the quantized weights.
        advance: Called after each block with the number of bytes read.

    Raises:
        CheckpointError: A weight is not a finite number.
    """
    with TensorWriter(target, layout(tensors.values(), number_format)) as writer:
        for name, tensor in tensors.items():
            if is_linear(tensor):
                for block in _row_blocks(tensor):
                    weights, scales = _quantize(tensor, block, number_format)
                    writer.write(name, weights)
                    writer.write(_scale(name), scales)
                    advance(len(block))
            else:
                for block in _blocks(tensor, _CHUNK):
                    writer.write(name, block)
                    advance(len(block))


def read_back(tensor: Tensor, written: Mapping[str, Tensor], number_format: NumberFormat) -> bool:
    """
    Return whether a tensor was written as it should have been.

    Args:
        tensor: The tensor of the source.
        written: The tensors of the written checkpoint by name.
        number_format: The format of the quantized weights.

    Returns:
        False if a dtype or shape is wrong, or the first or the last row of quantized weights or
        its scale.
    """
    for name, expected in layout([tensor], number_format).items():
        found = written.get(name)
        if found is None or (found.dtype, found.shape, found.size) != expected:
            return False
    if not is_linear(tensor):
        return True
    weights, scales = written[tensor.name], written[_scale(tensor.name)]
    ends = [0, tensor.shape[0] - 1]
    return all(
        (found, scale) == _quantize(tensor, row, number_format)
        for row, found, scale in zip(
            tensor.rows(ends), weights.rows(ends), scales.rows(ends), strict=True
        )
    )


def _scale(name: str) -> str:
    return name + "_scale"


def _quantize(tensor: Tensor, block: bytes, number_format: NumberFormat) -> tuple[bytes, bytes]:
    """Return the bytes of some rows of quantized weights, and those of their scales."""
    import numpy as np

    rows = from_bytes(block, tensor.dtype, tensor.shape[1])
    if not np.isfinite(rows).all():
        raise CheckpointError(
            f"{tensor.file}: {tensor.name} holds weights that are not finite, so it cannot be "
            "quantized: the checkpoint is damaged, or its training diverged"
        )
    weights, scales = quantize_rows(rows, number_format)
    return weights.tobytes(), scales.tobytes()


def _row_blocks(tensor: Tensor) -> Iterator[bytes]:
    """Yield the bytes of a matrix, some whole rows at a time."""
    columns = tensor.shape[1]
    rows = max(1, _BLOCK // columns)
    return _blocks(tensor, rows * columns * FLOATS[tensor.dtype])


def _blocks(tensor: Tensor, length: int) -> Iterator[bytes]:
    """Yield the bytes of a tensor, at most `length` at a time."""
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        left = tensor.size
        while left:
            block = file.read(min(length, left))
            if not block:
                raise CheckpointError(f"{tensor.file} became shorter while it was read")
            yield block
            left -= len(block)
