"""
The `/v1/score` of this package's own gateway, which never leaves a document out.

It cuts or divides documents that are too long itself, without touching the rest of the prompt.

    {"model": "m", "text_1": "q", "text_2": ["d", ...], "instruction": "i"}
    {"data": [{"index": 0, "object": "score", "score": 0.98}], "usage": {"prompt_tokens": 93}}

The model may be an alias of the gateway, which has an instruction of its own.
"""

from __future__ import annotations

from qwen3_reranker.dialects.base import Limits
from qwen3_reranker.dialects.vllm import VllmScore

__all__ = ["Gateway"]


class Gateway(VllmScore):
    """`/v1/score` of `qwen3-reranker gateway`."""

    name = "gateway"
    kind = "qwen3-reranker"
    common = False
    template_modes = ("server",)
    limits = Limits(documents=1000)
    answer_tokens = 0
    key_variables = ("QWEN3_RERANKER_API_KEY",)
