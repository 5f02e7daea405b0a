"""
llama.cpp's server: `/v1/rerank`, read in its source of 2026 and run in xllamacpp 2026.10.11549.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1}
    {"model": "m", "object": "list", "usage": {"prompt_tokens": 93, "total_tokens": 93},
     "results": [{"index": 0, "relevance_score": 0.98}]}

The GGUF file holds the template, with the default instruction in it; a request cannot carry
another. The server replaces `{query}` in the template first and then every `{document}`, including
one in the query, so such a query is broken up. It does not normalize text to NFC as the model's
tokenizer does; the client does that for every server. A prompt that is longer than the context of
a slot is a 400: "request (5812 tokens) exceeds the available context size (2048 tokens)".
"""

from __future__ import annotations

from qwen3_reranker.dialects.rerank import RerankDialect

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
