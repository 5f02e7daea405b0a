"""
llama.cpp's server: `/v1/rerank`, read in its source of 2026.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1}
    {"model": "m", "object": "list", "usage": {"prompt_tokens": 93, "total_tokens": 93},
     "results": [{"index": 0, "relevance_score": 0.98}]}

The template is in the GGUF file, with the default instruction in it: there is no way to send
another. A prompt longer than the physical batch (512 tokens unless started with `-ub`) is a 500.
"""

from __future__ import annotations

from qwen3_reranker.scorers.dialects.rerank import RerankDialect

__all__ = ["LlamaCpp"]


class LlamaCpp(RerankDialect):
    """`/v1/rerank` of llama-server, started with `--rerank`."""

    name = "llama.cpp"
    kind = "llama.cpp"
    paths = ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")
    extra = {}  # noqa: RUF012
    placeholders = ("{document}",)
    counts = True
    key_variables = ("LLAMA_API_KEY",)
