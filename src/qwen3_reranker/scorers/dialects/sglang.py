"""
SGLang's endpoints, read and run in 0.5.23.

`/v1/score` on the original checkpoint takes token ids, and needs neither conversion nor template:

    {"query": [151644, ...], "items": [[27, ...], ...], "label_token_ids": [9693, 2152],
     "apply_softmax": true, "item_first": false, "model": "m"}
    {"scores": [[p_yes, p_no], ...], "usage": {...}, "object": "scoring"}

`/v1/rerank` on the original checkpoint, where the server's template has Qwen's system text; the
answer is a bare list:

    {"query": "q", "documents": ["d", ...], "instruct": "...", "top_n": 1}
    [{"score": 0.98, "index": 0, "meta_info": null}]

`/v1/classify` on a checkpoint converted to two labels; nested ids are refused there, so text goes:

    {"model": "m", "input": ["prompt", ...]}
    {"data": [{"index": 0, "label": "yes", "probs": [p_no, p_yes], "num_classes": 2}]}

A prompt has to be seven tokens shorter than the context. On a two-label checkpoint the first answers in
the order of the labels, whatever was asked, and the second with a raw logit: both are told from the
third by a probe.
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.errors import AnswerError
from qwen3_reranker.scorers.dialects.base import Ask, Call, Dialect, number, placed, rows
from qwen3_reranker.scorers.dialects.rerank import RerankDialect
from qwen3_reranker.scorers.dialects.vllm import two_labels

__all__ = ["SglangClassify", "SglangRerank", "SglangScore"]


class SglangScore(Dialect):
    """`/v1/score` on an original (causal) checkpoint; first choice."""

    name = "sglang-score"
    kind = "SGLang"
    common = True
    answer_tokens = 7
    paths = ("/v1/score",)
    ids = True
    owners = ("client",)
    needs_labels = True
    key_variables = ("SGLANG_API_KEY",)

    def build(self, ask: Ask) -> Call:
        return Call(
            {
                "model": ask.model,
                "query": ask.query,
                "items": list(ask.documents),
                "label_token_ids": list(ask.labels or ()),
                "apply_softmax": True,
                "item_first": False,
            }
        )

    def parse(self, answer: Any, count: int) -> list[float]:
        scores = rows(answer, "scores")
        if len(scores) != count:
            raise AnswerError(f"asked for the scores of {count} documents, got {len(scores)}")
        for place, row in enumerate(scores):
            if not isinstance(row, list) or len(row) != 2:
                raise AnswerError(f"document {place} has {row!r:.80}, not [P(yes), P(no)]")
        return [number(row[0], f"the score of document {i}") for i, row in enumerate(scores)]


class SglangRerank(RerankDialect):
    """`/v1/rerank` on an original checkpoint with a Qwen3 reranker's template on the server."""

    name = "sglang-rerank"
    kind = "SGLang"
    answer_tokens = 7
    paths = ("/v1/rerank",)
    instruction_field = "instruct"
    key_variables = ("SGLANG_API_KEY",)

    def parse(self, answer: Any, count: int) -> list[float]:
        return placed(
            answer if isinstance(answer, list) else rows(answer, "results"), count, "score"
        )


class SglangClassify(Dialect):
    """`/v1/classify` on a checkpoint converted to two labels."""

    name = "sglang-classify"
    kind = "SGLang"
    common = True
    answer_tokens = 7
    paths = ("/v1/classify",)
    owners = ("client",)
    counts = True
    key_variables = ("SGLANG_API_KEY",)

    def build(self, ask: Ask) -> Call:
        return Call({"model": ask.model, "input": ask.whole()})

    def parse(self, answer: Any, count: int) -> list[float]:
        found = rows(answer, "data")
        for item in found:
            # An error, too, is answered with status 200.
            if isinstance(item, dict) and item.get("label") == "Default":
                raise AnswerError(f"the server failed on a document: {item!r:.200}")
        return placed(found, count, two_labels)
