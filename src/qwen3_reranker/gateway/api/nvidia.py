"""
The rerank API of NVIDIA's inference microservices (NIM).

    {"model": "m", "query": {"text": "q"}, "passages": [{"text": "d"}, {"text": "e"}]}
    {"rankings": [{"index": 1, "logit": 4.1}, {"index": 0, "logit": -5.2}],
     "usage": {"prompt_tokens": 93, "total_tokens": 93}}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.api.job import (
    Document,
    InstructedBody,
    Job,
    finite_logit,
    text_of,
    texts_of,
)
from qwen3_reranker.gateway.api.validation import TopN, validated
from qwen3_reranker.ranking import Ranking

__all__ = ["API", "Body", "parse"]


class Body(InstructedBody):
    """A query, and the passages to rank by it."""

    query: Document = Field(description="The question or search text, under `text`.")
    passages: list[Document] = Field(description="The documents, each under `text`.")
    top_n: TopN = Field(
        None, description="Return at most this many passages. Null, 0 or less returns all."
    )
    truncate: str | None = Field(
        None, description="Accepted and ignored: passages that are too long are always truncated."
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
        queries=[(text_of(body.query), texts_of(body.passages))],
        instruction=body.chosen_instruction(),
        top_n=body.top_n,
        render=_render,
    )


def _render(rankings: Sequence[Ranking], _: str) -> dict[str, Any]:
    (ranking,) = rankings
    tokens = ranking.usage.tokens
    return {
        "rankings": [{"index": hit.index, "logit": finite_logit(hit)} for hit in ranking],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


API = Api(
    name="nvidia",
    title="NVIDIA NIM",
    body=Body,
    parse=parse,
    example_request={
        "model": "Qwen/Qwen3-Reranker-0.6B",
        "query": {"text": "How do I copy a folder?"},
        "passages": [
            {"text": "random.shuffle(x) shuffles a list."},
            {"text": "shutil.copytree() copies a directory tree."},
        ],
    },
    example_answer={
        "rankings": [{"index": 1, "logit": 4.1}, {"index": 0, "logit": -5.2}],
        "usage": {"prompt_tokens": 171, "total_tokens": 171},
    },
)
"""The API."""
