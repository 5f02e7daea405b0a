"""
OpenAI's `/v1/completions` with logprobs: the model card's recipe for the original checkpoint.

    {"model": "m", "prompt": [[151644, ...], ...], "max_tokens": 1, "temperature": 0,
     "logprobs": 20}
    {"choices": [{"index": 0, "logprobs": {"top_logprobs": [{"yes": -0.02, "no": -4.1}]}}],
     "usage": {"prompt_tokens": 93}}

llama.cpp's server (xllamacpp 2026.10.11549) answers in the format of chat completions instead:

    {"choices": [{"index": 0, "logprobs": {"content": [{"top_logprobs":
     [{"id": 9693, "token": "yes", "logprob": -0.02}, ...]}]}}]}

P(yes) is the softmax over the logprobs of "yes" and "no". A token that is not among the most likely
ones counts as -10, as in the model card's vLLM example. If the ids of both are known, neither is
missing: vLLM (0.32) returns their logprobs because of `logprob_token_ids`; for other servers, both
get the same `logit_bias`, which lifts them to the top and preserves their difference (SGLang
0.5.23; vLLM's logprobs are computed before the bias).
"""

from __future__ import annotations

from typing import Any

from qwen3_reranker.dialects.base import (
    SGLANG_KEY_VARIABLE,
    VLLM_KEY_VARIABLE,
    Dialect,
    HttpRequest,
    Limits,
    ScoreRequest,
    number,
    require_list,
    scores_by_index,
)
from qwen3_reranker.dialects.sglang import ANSWER_TOKENS
from qwen3_reranker.errors import AnswerError
from qwen3_reranker.model.probability import sigmoid

__all__ = ["MISSING", "Completions"]

MISSING = -10.0
"""The logprob of a token that is not among the most likely ones."""


class Completions(Dialect):
    """`/v1/completions` of a generative model."""

    name = "completions"
    paths = ("/v1/completions", "/completions")
    ids = True
    template_modes = ("client",)
    counts = True
    generates = True
    answer_tokens = ANSWER_TOKENS  # other servers require only one
    limits = Limits(documents=64)
    key_variables = (VLLM_KEY_VARIABLE, SGLANG_KEY_VARIABLE)

    def build(self, request: ScoreRequest) -> HttpRequest:
        """Build the request: whole prompts, and the logprobs of one answer token."""
        body: dict[str, Any] = {
            "model": request.model,
            "prompt": request.whole(),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 20,
            # In case a vLLM server was started with --return-tokens-as-token-ids.
            "return_tokens_as_token_ids": False,
        }
        if request.labels is not None:
            body |= {
                "logprob_token_ids": list(request.labels),
                "allowed_token_ids": list(request.labels),
                "logit_bias": {str(label): 100 for label in request.labels},
            }
        return HttpRequest(body)

    def parse(self, answer: Any, count: int) -> list[float]:
        """Parse P(yes) from the logprobs of each choice."""
        return scores_by_index(require_list(answer, "choices"), count, _probability)


def _probability(choice: dict[str, Any]) -> float:
    top = _top_logprobs(choice.get("logprobs"))
    if top is None:
        raise AnswerError(
            f"a choice has no top_logprobs: {choice!r:.200}; the server must return them"
        )
    yes, no = (_logprob(top, word) for word in ("yes", "no"))
    if yes is None and no is None:
        raise AnswerError(
            f"neither 'yes' nor 'no' is among the most likely tokens {sorted(top)!r:.200}: this is "
            "not a Qwen3 reranker, or the end of its prompt is missing"
        )
    margin = (MISSING if yes is None else yes) - (MISSING if no is None else no)
    return sigmoid(margin)


def _top_logprobs(logprobs: Any) -> dict[str, Any] | None:
    """Return the logprob of each alternative to the first token; None if there are none."""
    if not isinstance(logprobs, dict):
        return None
    content = logprobs.get("content")
    if isinstance(content, list) and content and isinstance(content[0], dict):
        entries = content[0].get("top_logprobs")
        if not isinstance(entries, list):
            return None
        named = [entry for entry in entries if isinstance(entry, dict)]
        return {str(entry.get("token")): entry.get("logprob") for entry in named}
    top = logprobs.get("top_logprobs")
    return top[0] if isinstance(top, list) and top and isinstance(top[0], dict) else None


def _logprob(top: dict[str, Any], word: str) -> float | None:
    return number(top[word], f"the logprob of {word!r}") if word in top else None
