"""
The head of a classifier: whether it has the bias that SGLang needs, and whether vLLM misreads it.

SGLang's head has a bias, which is random at every start if the checkpoint has none. vLLM needs
none. But vLLM reads the head as a quantized layer if the checkpoint's quantization does not exempt
it, even if it is stored as ordinary floats (read in 0.9.2 to 0.33, run in 0.32).
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.checkpoint import Checkpoint
from qwen3_reranker.model.layout import SCORE_BIAS, SCORE_WEIGHT
from qwen3_reranker.model.quantization import Quantization
from qwen3_reranker.model.safetensors import FLOATS, read_tensors

__all__ = ["folder_lacks_bias", "lacks_bias", "misread_head"]


def lacks_bias(tensors: Container[str]) -> bool:
    """Return whether there is a head without a bias among the names of a checkpoint's tensors."""
    return SCORE_WEIGHT in tensors and SCORE_BIAS not in tensors


def folder_lacks_bias(folder: Path) -> bool | None:
    """Return whether a checkpoint has a head without a bias; None if it cannot be read here."""
    try:
        tensors = read_tensors(folder)
    except (CheckpointError, OSError):
        return None
    return lacks_bias(tensors) if SCORE_WEIGHT in tensors else None


def misread_head(checkpoint: Checkpoint) -> str | None:
    """
    Say why vLLM gives wrong scores with a quantized classifier.

    Args:
        checkpoint: The checkpoint.

    Returns:
        The reason, for people to read; None if the checkpoint is not quantized or not a classifier,
        if its head is exempt or stored as a quantized layer, or if it cannot be read here.
    """
    quantization = Quantization.of(checkpoint.config)
    if checkpoint.kind == "causal" or quantization is None or not quantization.covers("score"):
        return None
    try:
        head = read_tensors(Path(checkpoint.model)).get(SCORE_WEIGHT)
    except (CheckpointError, OSError):
        return None
    if head is None or head.dtype not in FLOATS:
        return None
    return (
        f"its quantization ({quantization.name}) does not exempt the head, so vLLM reads "
        f"{SCORE_WEIGHT} ({head.dtype}) as a quantized layer (0.9.2 to 0.33)"
    )
