"""
The head of a classifier: whether it has the bias that SGLang needs.

SGLang's head has a bias, which is random at every start if the checkpoint has none. vLLM needs
none.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from qwen3_reranker.errors import CheckpointError
from qwen3_reranker.model.layout import SCORE_BIAS, SCORE_WEIGHT
from qwen3_reranker.model.safetensors import read_tensors

__all__ = ["folder_lacks_bias", "lacks_bias"]


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
