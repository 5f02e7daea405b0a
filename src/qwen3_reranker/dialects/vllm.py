"""
vLLM's pooling endpoints, read in 0.9.2 to 0.33.0 and run on 0.32.0.

`/classify` takes token ids from 0.16 on, so nothing has to be guessed about the template:

    {"model": "m", "input": [[151644, ...], ...]}
    {"data": [{"index": 0, "label": "LABEL_0", "probs": [0.98], "num_classes": 1}],
     "usage": {"prompt_tokens": 93, ...}}

`/v1/score` and `/v1/rerank` take text. Started with `--chat-template` the server writes the
template; without, it joins query and document with nothing between, and the client can send them
as the two halves of a written prompt.

    {"model": "m", "text_1": "query", "text_2": ["document", ...]}
    {"data": [{"index": 0, "object": "score", "score": 0.98}], "usage": {"prompt_tokens": 93}}

    {"model": "m", "query": "query", "documents": ["document", ...], "top_n": 1}
    {"results": [{"index": 0, "document": {"text": "..."}, "relevance_score": 0.98}],
     "usage": {"prompt_tokens": 93, "total_tokens": 93}}

A model served to generate has `/generative_scoring` (0.32): ids, and a softmax over two labels.

    {"query": [151644, ...], "items": [[27, ...], ...], "label_token_ids": [9693, 2152]}
    {"data": [{"index": 0, "object": "score", "score": 0.98}], "usage": {"prompt_tokens": 93}}

From 0.22 on `/v1/score` and `/v1/rerank` take an `instruction` for the template; older ones ignore it in silence.
`truncate_prompt_tokens` is never sent: it cuts the written prompt, and with it the suffix.
"""

from __future__ import annotations

from typing import Any, ClassVar

from qwen3_reranker.dialects.base import (
    VLLM_KEY_VARIABLE,
    Dialect,
    HttpRequest,
    ScoreRequest,
    TemplateBy,
    number,
    require_list,
    scores_by_index,
)
from qwen3_reranker.dialects.rerank import RerankDialect
from qwen3_reranker.errors import AnswerError

__all__ = ["VllmClassify", "VllmGenerative", "VllmRerank", "VllmScore", "two_labels"]


def two_labels(item: Any) -> float:
    """Return P(yes) of one or two labels' probabilities; two stand in the order [no, yes]."""
    probabilities = item.get("probs")
    if not isinstance(probabilities, list) or len(probabilities) not in (1, 2):
        raise AnswerError(f"a result has not one or two labels' probabilities: {item!r:.200}")
    return number(probabilities[-1], "a label's probability")


# vLLM 0.27 to 0.31 keeps a token of the model's length free for an answer, in pooling too, in every
# step of a prompt but its first. A prompt of exactly that length which takes several steps is never
# finished, and the request never answered. 0.32 has mended it. A prompt served whole from the
# prefix cache hides it, so the token is kept free for every version.
_ANSWER_TOKENS = 1


class VllmClassify(Dialect):
    """`/classify`: token ids in, one number per prompt; the most reliable endpoint of a vLLM."""

    name = "vllm-classify"
    kind = "vLLM"
    common = True
    paths = ("/classify",)
    ids = True
    template_modes = ("client",)
    counts = True
    answer_tokens = _ANSWER_TOKENS
    key_variables = (VLLM_KEY_VARIABLE,)

    def build(self, request: ScoreRequest) -> HttpRequest:
        return HttpRequest({"model": request.model, "input": request.whole()})

    def parse(self, answer: Any, count: int) -> list[float]:
        return scores_by_index(require_list(answer, "data"), count, two_labels)


class VllmScore(Dialect):
    """`/v1/score`, in the names that every version knows."""

    name = "vllm-score"
    kind = "vLLM"
    common = True
    paths = ("/v1/score", "/score")
    template_modes = ("client", "server")
    instruction = True
    counts = True
    answer_tokens = _ANSWER_TOKENS
    key_variables = (VLLM_KEY_VARIABLE,)

    def build(self, request: ScoreRequest) -> HttpRequest:
        body = {"model": request.model, "text_1": request.query, "text_2": list(request.documents)}
        return HttpRequest(
            body if request.instruction is None else body | {"instruction": request.instruction}
        )

    def parse(self, answer: Any, count: int) -> list[float]:
        return scores_by_index(require_list(answer, "data"), count, "score")


class VllmGenerative(Dialect):
    """`/generative_scoring` of a causal checkpoint that is served to generate."""

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
        return scores_by_index(require_list(answer, "data"), count, "score")


class VllmRerank(RerankDialect):
    """`/v1/rerank`, which sorts and echoes the documents; also vLLM-Ascend's."""

    name = "vllm-rerank"
    kind = "vLLM"
    paths = ("/v1/rerank", "/rerank", "/v2/rerank")
    template_modes: ClassVar[tuple[TemplateBy, ...]] = ("client", "server")
    instruction_field = "instruction"
    counts = True
    answer_tokens = _ANSWER_TOKENS
    key_variables = (VLLM_KEY_VARIABLE,)
