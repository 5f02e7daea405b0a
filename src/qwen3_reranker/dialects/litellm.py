"""
The LiteLLM proxy's `/v1/rerank`, `/v2/rerank` and `/rerank`: Cohere's format with an instruction.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "instruction": "..."}
    {"id": "...", "results": [{"index": 0, "relevance_score": 0.98}], "meta": {...}}

The server behind the proxy decides about the template and computes the scores. The proxy may drop
the instruction, which detection notices by comparing scores, and may return unsorted results. For
an Infinity server behind the proxy, use the dialect `litellm-infinity`, which splits the prompt as
Infinity needs it.
"""

from __future__ import annotations

from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["Litellm"]


class Litellm(RerankDialect):
    """`/v1/rerank` of a LiteLLM proxy."""

    name = "litellm"
    kind = "LiteLLM"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank")
    template_modes = ("server", "client")
    cuts_silently = True
    instruction_field = "instruction"
    placeholders = ("{document}",)
    key_variables = ("LITELLM_API_KEY", "LITELLM_MASTER_KEY")
