"""Read a converted checkpoint back, and compare it with its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qwen3_reranker.convert.compressed_tensors import read_back
from qwen3_reranker.convert.quantize import NumberFormat
from qwen3_reranker.convert.source import Source
from qwen3_reranker.convert.transfer import body
from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import SCORE_BIAS, SCORE_WEIGHT
from qwen3_reranker.model.safetensors import Tensor, decode, encode, read_tensors

__all__ = ["verify_written"]


def verify_written(
    source: Source, folder: Path, labels: int, quantize: NumberFormat | None
) -> None:
    """
    Read the result as a loader does, and compare it with the source.

    Args:
        source: The original checkpoint.
        folder: The folder of the converted one.
        labels: The number of labels that its head should have.
        quantize: The format of quantized weights; None if the weights should be the source's.

    Raises:
        CheckpointError: It differs, because of a broken disk or a bug in this package.
    """
    tensors = read_tensors(folder)
    no, yes = (decode(row, source.head.dtype) for row in source.head.rows([source.no, source.yes]))
    score = tensors[SCORE_WEIGHT]
    rows = [decode(row, score.dtype) for row in score.rows(range(score.shape[0]))]
    if labels == 2:
        equal = rows == [no, yes]
    else:
        difference = [y - n for y, n in zip(yes, no, strict=True)]
        equal = rows == [decode(encode(difference), "F32")]
    bias = tensors.get(SCORE_BIAS)
    if bias is not None:
        with bias.file.open("rb") as file:
            file.seek(bias.start)
            equal = equal and not any(file.read(bias.size))
    equal = equal and all(_equal(tensor, tensors, quantize) for tensor in body(source).values())
    kind = "one-label" if labels == 1 else "two-label"
    if not equal or Checkpoint.load(str(folder)).kind != kind:
        raise CheckpointError(
            f"the checkpoint written for {source.folder} reads back differently, so it was "
            "removed: check the disk, and try again"
        )


def _equal(tensor: Tensor, written: Mapping[str, Tensor], quantize: NumberFormat | None) -> bool:
    """Return whether a tensor of the source was kept or quantized as it should have been."""
    if quantize is not None:
        return read_back(tensor, written, quantize)
    kept = written[tensor.name]
    layout = (tensor.dtype, tensor.shape, tensor.start, tensor.size)
    return layout == (kept.dtype, kept.shape, kept.start, kept.size)
