"""
SGLang's endpoints, as in version 0.5.23.

`/v1/score` of the original checkpoint accepts token ids, and needs neither conversion nor template:

    {"query": [151644, ...], "items": [[27, ...], ...], "label_token_ids": [9693, 2152],
     "apply_softmax": true, "item_first": false, "model": "m"}
    {"scores": [[p_yes, p_no], ...], "usage": {...}, "object": "scoring"}

`/v1/rerank` of the original checkpoint, if the server's template contains Qwen's system text. The
response is a bare list:

    {"query": "q", "documents": ["d", ...], "instruct": "...", "top_n": 1}
    [{"score": 0.98, "index": 0, "meta_info": null}]

`/v1/classify` of a checkpoint converted to two labels. It refuses lists of token ids, so text is
sent:

    {"model": "m", "input": ["prompt", ...]}
    {"data": [{"index": 0, "label": "yes", "probs": [p_no, p_yes], "num_classes": 2}]}

A prompt must be seven tokens shorter than the context (`ANSWER_TOKENS`). With a two-label
checkpoint, `/v1/score` returns the labels in their own order instead of the requested one, and
`/v1/rerank` returns a raw logit; the probe rejects both, so that `/v1/classify` is used.
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.dialects.base import (
    SGLANG_KEY_VARIABLE,
    Dialect,
    HttpRequest,
    ScoreRequest,
    number,
    require_list,
    scores_by_index,
)
from qwen3_reranker.dialects.classify import ClassifyDialect
from qwen3_reranker.dialects.rerank import RerankDialect
from qwen3_reranker.errors import AnswerError

__all__ = ["ANSWER_TOKENS", "SglangClassify", "SglangRerank", "SglangScore"]

ANSWER_TOKENS = 7
"""The number of tokens by which a prompt must be shorter than the context."""


class SglangScore(Dialect):
    """`/v1/score` of an original (causal) checkpoint."""

    name = "sglang-score"
    kind = "SGLang"
    common = True
    answer_tokens = ANSWER_TOKENS
    paths = ("/v1/score",)
    ids = True
    template_modes = ("client",)
    needs_labels = True
    key_variables = (SGLANG_KEY_VARIABLE,)

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: the prompt's head as `query`, the rest of each prompt as `items`."""
        return HttpRequest(
            {
                "model": request.model,
                "query": request.query,
                "items": list(request.documents),
                "label_token_ids": list(request.labels or ()),
                "apply_softmax": True,
                "item_first": False,
            }
        )

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse P(yes) from the pair of probabilities of each document."""
        scores = require_list(answer, "scores", count)
        for index, row in enumerate(scores):
            if not isinstance(row, list) or len(row) != 2:
                raise AnswerError(f"document {index} has {row!r:.80}, not [P(yes), P(no)]")
        return [number(row[0], f"the score of document {i}") for i, row in enumerate(scores)]


class SglangRerank(RerankDialect):
    """`/v1/rerank` of an original checkpoint with the Qwen3 template on the server."""

    name = "sglang-rerank"
    kind = "SGLang"
    answer_tokens = ANSWER_TOKENS
    paths = ("/v1/rerank",)
    instruction_field = "instruct"
    key_variables = (SGLANG_KEY_VARIABLE,)

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the bare list of results."""
        return scores_by_index(
            answer if isinstance(answer, list) else require_list(answer, "results"), count, "score"
        )


class SglangClassify(ClassifyDialect):
    """`/v1/classify` of a checkpoint converted to two labels."""

    name = "sglang-classify"
    kind = "SGLang"
    answer_tokens = ANSWER_TOKENS
    paths = ("/v1/classify",)
    key_variables = (SGLANG_KEY_VARIABLE,)

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the probabilities of two labels for each prompt."""
        for item in require_list(answer, "data"):
            # Errors have status 200 too.
            if isinstance(item, dict) and item.get("label") == "Default":
                raise AnswerError(f"the server failed on a document: {item!r:.200}")
        return super().parse(answer, count)
