"""
The rerank API of Text Embeddings Inference (TEI).

    {"query": "q", "texts": ["d", "e"], "raw_scores": false, "return_text": false}
    [{"index": 1, "score": 0.98}, {"index": 0, "score": 0.01}]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import Field

from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.api.job import InstructedBody, Job, finite_logit
from qwen3_reranker.gateway.api.validation import validated
from qwen3_reranker.gateway.limits import Limits
from qwen3_reranker.ranking import Hit, Ranking
from qwen3_reranker.version import __version__

__all__ = ["API", "Body", "info", "parse"]


class Body(InstructedBody):
    """A query, and the texts to rank by it."""

    query: str = Field(description="The question or search text.")
    texts: list[str] = Field(description="The texts to rank.")
    raw_scores: bool | None = Field(
        None, description="Whether to return log-odds instead of probabilities."
    )
    return_text: bool | None = Field(None, description="Whether each result has its `text`.")
    truncate: bool | None = Field(
        None, description="Accepted and ignored: texts that are too long are always truncated."
    )


def parse(data: dict[str, Any]) -> Job:
    """
    Return what a body asks for.

    Raises:
        GatewayError: A field cannot be used.
    """
    body = validated(Body, data)
    return Job(
        model=body.model,
        queries=[(body.query, body.texts)],
        instruction=body.chosen_instruction(),
        render=partial(_render, bool(body.raw_scores), bool(body.return_text)),
    )


def _render(raw: bool, with_texts: bool, rankings: Sequence[Ranking], _: str) -> list[Any]:
    def result(hit: Hit) -> dict[str, Any]:
        text = {"text": hit.text} if with_texts else {}
        score = finite_logit(hit) if raw else hit.score
        return {"index": hit.index, **text, "score": score}

    (ranking,) = rankings
    return [result(hit) for hit in ranking]


def info(model: str, limits: Limits) -> dict[str, Any]:
    """
    Return what TEI's `/info` says, which clients read to see that there is a reranker.

    Args:
        model: The model's name.
        limits: What requests may contain.
    """
    return {
        "model_id": model,
        "model_sha": None,
        "model_dtype": "auto",
        "model_type": {"reranker": {"id2label": {"0": "yes"}, "label2id": {"yes": 0}}},
        "max_concurrent_requests": limits.max_active + limits.max_queue,
        "max_client_batch_size": limits.max_documents,
        "auto_truncate": True,
        "version": __version__,
    }


API = Api(
    name="tei",
    title="Text Embeddings Inference (TEI), recognized by the field texts",
    body=Body,
    parse=parse,
    example_request={
        "query": "How do I copy a folder?",
        "texts": [
            "random.shuffle(x) shuffles a list.",
            "shutil.copytree() copies a directory tree.",
        ],
    },
    example_answer=[{"index": 1, "score": 0.98}, {"index": 0, "score": 0.01}],
)
"""The API."""
