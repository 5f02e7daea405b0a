"""Convert an original Qwen3-Reranker checkpoint to a sequence classifier."""

from qwen3_reranker.convert.conversion import Conversion, convert
from qwen3_reranker.convert.verification import Verification, verify

__all__ = ["Conversion", "Verification", "convert", "verify"]
