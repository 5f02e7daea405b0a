"""
vLLM's pooling endpoints, as in versions 0.9.2 to 0.33.0 (read) and 0.32.0 (run).

`/classify` accepts token ids since 0.16, so that the server's template does not matter:

    {"model": "m", "input": [[151644, ...], ...]}
    {"data": [{"index": 0, "label": "LABEL_0", "probs": [0.98], "num_classes": 1}],
     "usage": {"prompt_tokens": 93, ...}}

`/v1/score` and `/v1/rerank` accept text. A server started with `--chat-template` writes the
template. Without it, query and document are joined with nothing in between, so the client can send
them as the two parts of a prompt.

    {"model": "m", "text_1": "query", "text_2": ["document", ...]}
    {"data": [{"index": 0, "object": "score", "score": 0.98}], "usage": {"prompt_tokens": 93}}

    {"model": "m", "query": "query", "documents": ["document", ...], "top_n": 1}
    {"results": [{"index": 0, "document": {"text": "..."}, "relevance_score": 0.98}],
     "usage": {"prompt_tokens": 93, "total_tokens": 93}}

A generative model has `/generative_scoring` (0.32), which accepts token ids and returns the softmax
over two labels:

    {"query": [151644, ...], "items": [[27, ...], ...], "label_token_ids": [9693, 2152]}
    {"data": [{"index": 0, "object": "score", "score": 0.98}], "usage": {"prompt_tokens": 93}}

Since 0.22, `/v1/score` and `/v1/rerank` accept an `instruction` for the template; older versions
ignore it silently. `truncate_prompt_tokens` is never sent, because it would cut off the suffix of
the prompt.
"""

from __future__ import annotations

from typing import Any, ClassVar

from qwen3_reranker.dialects.base import (
    VLLM_KEY_VARIABLE,
    Dialect,
    HttpRequest,
    ScoreRequest,
    TemplateBy,
    require_list,
    scores_by_index,
)
from qwen3_reranker.dialects.classify import ClassifyDialect
from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["VllmClassify", "VllmGenerative", "VllmRerank", "VllmScore"]


# vLLM 0.27 to 0.31 reserves one token of the context for an answer, in pooling too, in every step
# of a prompt except the first. A prompt that fills the context and takes several steps is never
# finished, and the request is never answered. Version 0.32 fixes that. Because the prefix cache
# can hide the problem, the token is left free for every version.
_ANSWER_TOKENS = 1


class VllmClassify(ClassifyDialect):
    """`/classify`, which accepts token ids and is the most reliable endpoint of vLLM."""

    name = "vllm-classify"
    kind = "vLLM"
    paths = ("/classify",)
    ids = True
    answer_tokens = _ANSWER_TOKENS
    key_variables = (VLLM_KEY_VARIABLE,)


class VllmScore(Dialect):
    """`/v1/score`, with the field names that every version accepts."""

    name = "vllm-score"
    kind = "vLLM"
    common = True
    paths = ("/v1/score", "/score")
    template_modes: ClassVar[tuple[TemplateBy, ...]] = ("client", "server")
    instruction = True
    counts = True
    answer_tokens = _ANSWER_TOKENS
    key_variables = (VLLM_KEY_VARIABLE,)

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: the query as `text_1`, the documents as `text_2`."""
        body = {"model": request.model, "text_1": request.query, "text_2": list(request.documents)}
        return HttpRequest(
            body if request.instruction is None else body | {"instruction": request.instruction}
        )

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the score of each document."""
        return scores_by_index(require_list(answer, "data"), count, "score")


class VllmGenerative(Dialect):
    """`/generative_scoring` of an original (causal) checkpoint served as a generative model."""

    name = "vllm-generative"
    kind = "vLLM"
    common = True
    paths = ("/generative_scoring",)
    ids = True
    template_modes = ("client",)
    counts = True
    needs_labels = True
    answer_tokens = 1
    key_variables = (VLLM_KEY_VARIABLE,)

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: the prompt's head as `query`, the rest of each prompt as `items`."""
        labels = list(request.labels or ())
        items = list(request.documents)
        return HttpRequest(
            {
                "model": request.model,
                "query": request.query,
                "items": items,
                "label_token_ids": labels,
            }
        )

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse the score of each document."""
        return scores_by_index(require_list(answer, "data"), count, "score")


class VllmRerank(RerankDialect):
    """`/v1/rerank`, which sorts the results and repeats the documents."""

    name = "vllm-rerank"
    kind = "vLLM"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank")
    template_modes: ClassVar[tuple[TemplateBy, ...]] = ("client", "server")
    instruction_field = "instruction"
    counts = True
    answer_tokens = _ANSWER_TOKENS
    key_variables = (VLLM_KEY_VARIABLE,)
