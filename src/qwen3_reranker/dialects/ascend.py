"""
vLLM-Ascend's `/v1/rerank` (0.9.2rc1 and later): vLLM's, and no template on the server.

Its documentation has the client write the prompt in two halves: `query` is the prefix with
instruction and query, each document carries the suffix.
"""

from __future__ import annotations

from qwen3_reranker.dialects.vllm import VllmRerank

__all__ = ["VllmAscend"]


class VllmAscend(VllmRerank):
    """vLLM's rerank, the template always the client's."""

    name = "vllm-ascend"
    kind = "vLLM-Ascend"
    template_modes = ("client",)
