"""Convert original Qwen3-Reranker checkpoints to sequence classifiers, and compare scores."""

from qwen3_reranker.convert.conversion import Conversion, convert
from qwen3_reranker.convert.verification import Verification, verify

__all__ = ["Conversion", "Verification", "convert", "verify"]
