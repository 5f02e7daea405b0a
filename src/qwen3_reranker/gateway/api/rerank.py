"""
The rerank API of Jina and Cohere, which vLLM, Xinference, SiliconFlow and others use too.

    {"model": "m", "query": "q", "documents": ["d", {"text": "e"}], "top_n": 1}
    {"id": "rerank-1", "model": "m", "results": [{"index": 1, "relevance_score": 0.98}],
     "usage": {"prompt_tokens": 93, "total_tokens": 93}, "meta": {"tokens": {"input_tokens": 93}}}
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from pydantic import Field

from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.api.job import Document, InstructedBody, Job, texts_of
from qwen3_reranker.gateway.api.validation import TopN, validated
from qwen3_reranker.ranking import Ranking

__all__ = ["API", "Body", "parse"]


class Body(InstructedBody):
    """A query, and the documents to rank by it."""

    query: str = Field(description="The question or search text.")
    documents: list[Document] = Field(
        description="The documents, as strings or as objects with the string under `text`."
    )
    top_n: TopN = Field(
        None, description="Return at most this many documents. Null, 0 or less returns all."
    )
    return_documents: bool | None = Field(
        None, description="Whether each result has its text, under `document.text`."
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
        queries=[(body.query, texts_of(body.documents))],
        instruction=body.chosen_instruction(),
        top_n=body.top_n,
        render=partial(_render, bool(body.return_documents)),
    )


def _render(with_texts: bool, rankings: Sequence[Ranking], model: str) -> dict[str, Any]:
    (ranking,) = rankings
    results: list[dict[str, Any]] = [
        {"index": hit.index, "relevance_score": hit.score} for hit in ranking
    ]
    if with_texts:
        for result, hit in zip(results, ranking, strict=True):
            result["document"] = {"text": hit.text}
    tokens = ranking.usage.tokens
    meta: dict[str, Any] = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    }
    if count := ranking.usage.truncated:
        meta["warnings"] = [f"the end of {count} of the documents was cut off: it was too long"]
    return {
        "id": f"rerank-{uuid4().hex}",
        "model": model,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": meta,
    }


API = Api(
    name="rerank",
    title="Jina, Cohere, vLLM, Xinference, SiliconFlow",
    body=Body,
    parse=parse,
    example_request={
        "model": "Qwen/Qwen3-Reranker-0.6B",
        "query": "How do I copy a folder?",
        "documents": [
            "random.shuffle(x) shuffles a list.",
            "shutil.copytree() copies a directory tree.",
        ],
        "top_n": 2,
    },
    example_answer={
        "id": "rerank-8f14e45f",
        "model": "Qwen/Qwen3-Reranker-0.6B",
        "results": [{"index": 1, "relevance_score": 0.98}, {"index": 0, "relevance_score": 0.01}],
        "usage": {"prompt_tokens": 171, "total_tokens": 171},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 171, "output_tokens": 0},
        },
    },
)
"""The API."""
