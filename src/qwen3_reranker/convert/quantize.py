"""
Quantize weights to eight bits with numpy: one scale per output channel, symmetric around zero.

A channel's scale is its largest magnitude divided by the largest number of the format, so that
nothing is clipped. The rest is rounded to the nearest number of the format, ties to even.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from qwen3_reranker.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LARGEST", "NumberFormat", "check_format", "from_bytes", "quantize_rows"]

NumberFormat: TypeAlias = Literal["int8", "fp8"]
"""The number formats of quantized weights: 8-bit integers, or 8-bit floats (E4M3)."""

LARGEST = {"int8": 127.0, "fp8": 448.0}
"""The largest number that is used of each format."""

# The bits of an fp32 hold its exponent plus 127, above 23 bits of the fraction; those of an E4M3
# hold its exponent plus 7, above 3 bits.
_DROPPED = 23 - 3
_REBIAS = (127 - 7) << 23
# Below 2**-6, E4M3 has steps of 2**-9. So does fp32 from 2**14 to 2**15.
_SMALLEST_NORMAL = 2.0**-6
_STEPS_OF_SUBNORMALS = 2.0**14


def check_format(number_format: str | None) -> None:
    """
    Check the argument `quantize=`, and that numpy is installed if it is used.

    Args:
        number_format: The argument.

    Raises:
        InputError: It is neither a number format nor None.
        MissingDependencyError: numpy is not installed.
    """
    if number_format is None:
        return
    if number_format not in get_args(NumberFormat):
        raise InputError(f"quantize={number_format!r}: give 'int8', 'fp8' or None")
    try:
        import numpy as np  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"quantizing needs numpy ({error}): pip install 'numpy>=1.26'"
        ) from error


def from_bytes(data: bytes, dtype: str, columns: int) -> NDArray[np.float32]:
    """
    Return the exact values of the rows of a matrix.

    Args:
        data: Little-endian numbers.
        dtype: "F32", "F16" or "BF16".
        columns: The number of columns.
    """
    import numpy as np

    if dtype == "BF16":  # the upper half of an fp32
        wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(-1, columns)
    kind = {"F32": "<f4", "F16": "<f2"}[dtype]
    return np.frombuffer(data, kind).astype(np.float32).reshape(-1, columns)


def quantize_rows(
    rows: NDArray[np.float32], number_format: NumberFormat
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """
    Quantize the rows of a weight matrix, of which each one is an output channel.

    Args:
        rows: The weights; finite numbers.
        number_format: The format of the quantized numbers.

    Returns:
        The quantized rows (int8, or the bits of an E4M3 as uint8), and the scale of each row, with
        which its numbers must be multiplied.
    """
    import numpy as np

    largest = np.float32(LARGEST[number_format])
    # The lower limit keeps the division defined for rows of zeros.
    smallest = np.finfo(np.float32).tiny
    scales = np.maximum(np.abs(rows).max(axis=1) / largest, smallest)
    # A quotient can exceed the largest number by its rounding error.
    scaled = np.clip(rows / scales[:, None], -largest, largest)
    if number_format == "int8":
        return np.rint(scaled).astype(np.int8), scales
    return _to_e4m3(scaled), scales


def _to_e4m3(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the bits of the nearest E4M3 of each value in [-448, 448], ties to even."""
    import numpy as np

    bits = values.view(np.uint32)
    magnitude = bits & np.uint32(0x7FFFFFFF)
    # Adding just under half of the last bit that is kept, and one more if that bit is odd, rounds
    # to the nearest even number. A carry out of the fraction increases the exponent, as it should.
    odd = (magnitude >> _DROPPED) & np.uint32(1)
    half = np.uint32((1 << (_DROPPED - 1)) - 1)
    normal = (magnitude + half + odd - np.uint32(_REBIAS)) >> _DROPPED
    # The processor rounds to the nearest even number when it adds.
    shift = np.float32(_STEPS_OF_SUBNORMALS)
    subnormal = (np.abs(values) + shift).view(np.uint32) - shift.view(np.uint32)
    code = np.where(np.abs(values) < _SMALLEST_NORMAL, subnormal, normal)
    found: NDArray[np.uint8] = (code | (bits >> 24) & np.uint32(0x80)).astype(np.uint8)
    return found
