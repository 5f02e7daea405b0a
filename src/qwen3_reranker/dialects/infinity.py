"""
Infinity's `/rerank`, versions 0.0.77 (read) and 0.0.78 (run).

    {"model": "m", "query": "q", "documents": ["d", ...], "top_n": 1, "return_documents": false,
     "raw_scores": false}
    {"object": "rerank", "results": [{"relevance_score": 0.98, "index": 0}], "usage": {...}}

The checkpoint must have one label. The server writes no template. It strips white space from both
ends of both texts and joins them as the tokenizer joins a pair, which for Qwen3 is concatenation.
The prompt is therefore split after its first control token. A padding token
is appended, because the model's answer is read at the last token that is not padding, which is then
the end of the template. The server cuts a prompt that is too long, including its suffix, without an
error, so a tokenizer is needed to cut documents before that. Its usage counts characters.

A LiteLLM proxy forwards `infinity/NAME` models to Infinity and does not change the texts, so the
prompt is split in the same way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from qwen3_reranker.dialects.base import HttpRequest, Limits, ScoreRequest
from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["Infinity", "LitellmInfinity"]

_START = "<|im_start|>"
_PADDING = "<|endoftext|>"


class Infinity(RerankDialect):
    """`/rerank` of an Infinity server."""

    name = "infinity"
    kind = "Infinity"
    paths: ClassVar[tuple[str, ...]] = ("/rerank", "/v1/rerank")
    template_modes = ("client",)
    cuts_silently = True
    extra = {"return_documents": False, "raw_scores": False}  # noqa: RUF012
    limits = Limits(documents=2048)
    key_variables: ClassVar[tuple[str, ...]] = ("INFINITY_API_KEY",)

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: prompts split after their first control token, with padding."""
        rest = [str(text).removeprefix(_START) + _PADDING for text in request.whole()]
        return super().build(replace(request, query=_START, documents=rest))


class LitellmInfinity(Infinity):
    """`/v1/rerank` of a LiteLLM proxy in front of an Infinity server."""

    name = "litellm-infinity"
    kind = "LiteLLM"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank")
    extra = {"return_documents": False}  # noqa: RUF012
    key_variables = ("LITELLM_API_KEY", "LITELLM_MASTER_KEY")
