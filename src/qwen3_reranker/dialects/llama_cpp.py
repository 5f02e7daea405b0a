"""
llama.cpp's `/v1/rerank`, as in its source of 2026 and in xllamacpp 2026.10.11549.

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1}
    {"model": "m", "object": "list", "usage": {"prompt_tokens": 93, "total_tokens": 93},
     "results": [{"index": 0, "relevance_score": 0.98}]}

The GGUF file contains the template with the default instruction, and a request cannot carry another
one. The server first replaces `{query}` in the template and then every `{document}`, including one
in the query; the client therefore escapes it there. The server does not normalize text to NFC as
the model's tokenizer does; the client does so for every server. If a prompt is longer than the
context of a slot, the server answers 400: "request (5812 tokens) exceeds the available context size
(2048 tokens)".
"""

from __future__ import annotations

from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["LlamaCpp"]


class LlamaCpp(RerankDialect):
    """`/v1/rerank` of a llama-server started with `--rerank`."""

    name = "llama.cpp"
    kind = "llama.cpp"
    paths = ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")
    extra = {}  # noqa: RUF012
    placeholders = ("{document}",)
    counts = True
    key_variables = ("LLAMA_API_KEY",)
