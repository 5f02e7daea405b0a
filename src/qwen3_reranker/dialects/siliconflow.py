"""
SiliconFlow's `/v1/rerank`, as documented in 2026.

    {"model": "Qwen/Qwen3-Reranker-8B", "query": "q", "documents": ["d", ...], "top_n": 1,
     "instruction": "...", "return_documents": false}
    {"id": "...", "results": [{"index": 0, "relevance_score": 0.98}], "tokens": {...}}

The server writes the template.
"""

from __future__ import annotations

from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["SiliconFlow"]


class SiliconFlow(RerankDialect):
    """`/v1/rerank` of SiliconFlow, which serves Qwen3-Reranker in all three sizes."""

    name = "siliconflow"
    kind = "SiliconFlow"
    paths = ("/v1/rerank",)
    instruction_field = "instruction"
    default_model = "Qwen/Qwen3-Reranker-8B"
    hosts = ("siliconflow.cn", "siliconflow.com")
    key_variables = ("SILICONFLOW_API_KEY",)
