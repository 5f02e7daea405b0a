"""
LiteLLM's proxy: `/v1/rerank`, `/v2/rerank` and `/rerank`, Cohere's shape with an instruction.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "instruction": "..."}
    {"id": "...", "results": [{"index": 0, "relevance_score": 0.98}], "meta": {...}}

Template and scores are those of the server behind it. It may drop the instruction on the way,
which a probe finds out, and may answer unsorted. For an Infinity server behind it, which needs the
prompt split in another place, there is `litellm-infinity`.
"""

from __future__ import annotations

from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["Litellm"]


class Litellm(RerankDialect):
    """Rerank through a LiteLLM proxy."""

    name = "litellm"
    kind = "LiteLLM"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank")
    template_modes = ("server", "client")
    cuts_silently = True
    instruction_field = "instruction"
    placeholders = ("{document}",)
    key_variables = ("LITELLM_API_KEY", "LITELLM_MASTER_KEY")
