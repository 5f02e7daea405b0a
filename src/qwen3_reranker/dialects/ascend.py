"""
vLLM-Ascend's `/v1/rerank`, version 0.9.2rc1 and later: the same as vLLM's, without a template.

According to its documentation, the client writes the prompt in two parts: `query` contains the
prefix, the instruction and the query, and each document ends with the suffix.
"""

from __future__ import annotations

from qwen3_reranker.dialects.vllm import VllmRerank

__all__ = ["VllmAscend"]


class VllmAscend(VllmRerank):
    """`/v1/rerank` of vLLM-Ascend, with the template always written by the client."""

    name = "vllm-ascend"
    kind = "vLLM-Ascend"
    template_modes = ("client",)
