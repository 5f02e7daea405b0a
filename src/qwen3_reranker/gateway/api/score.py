"""
The score API of vLLM: pairs of texts, whose scores are returned in the order given.

    {"model": "m", "text_1": "q", "text_2": ["d", "e"]}
    {"object": "list", "data": [{"index": 0, "object": "score", "score": 0.01}, ...]}
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import Field

from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.api.job import (
    Document,
    InstructedBody,
    Job,
    text_of,
    texts_of,
)
from qwen3_reranker.gateway.api.validation import validated
from qwen3_reranker.gateway.errors import GatewayError
from qwen3_reranker.ranking import Ranking

__all__ = ["API", "Body", "parse"]

# The names of the two fields, in the order in which vLLM 0.32 looks for them.
_FIELDS = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)

Texts = Document | list[Document] | None


class Body(InstructedBody):
    """One query and its documents, or as many queries as documents."""

    text_1: Texts = Field(None, description="The query, or one query for each document.")
    text_2: Texts = Field(None, description="The documents.")
    queries: Texts = Field(None, description="Another name of `text_1`.")
    documents: Texts = Field(None, description="Another name of `text_2`.")
    items: Texts = Field(None, description="Another name of `text_2`.")
    data_1: Texts = Field(None, description="Another name of `text_1`.")
    data_2: Texts = Field(None, description="Another name of `text_2`.")


class _Position(NamedTuple):
    """Where the score of a pair is found."""

    query: int
    document: int


def parse(data: dict[str, Any]) -> Job:
    """
    Return what a body asks for. Pairs with the same query are scored together.

    Raises:
        GatewayError: A field cannot be used, or there are not as many queries as documents.
    """
    body = validated(Body, data)
    for first, second in _FIELDS:
        queries, documents = getattr(body, first), getattr(body, second)
        if queries is not None and documents is not None:
            break
    else:
        raise GatewayError(422, "text_1 and text_2 are missing: give the query and its documents")
    queries, documents = _listed(queries), _listed(documents)
    if len(queries) == 1:
        queries *= len(documents)
    if len(queries) != len(documents):
        raise GatewayError(
            422,
            f"{first} has {len(queries)} texts and {second} {len(documents)}: give one query, or "
            "as many queries as documents",
        )
    groups: dict[str, list[str]] = {}
    numbers: dict[str, int] = {}
    positions = []
    for query, document in zip(queries, documents, strict=True):
        group = groups.setdefault(query, [])
        positions.append(_Position(numbers.setdefault(query, len(numbers)), len(group)))
        group.append(document)
    return Job(
        model=body.model,
        queries=list(groups.items()),
        instruction=body.chosen_instruction(),
        selects=False,
        render=partial(_render, positions),
    )


def _listed(texts: Any) -> list[str]:
    return texts_of(texts) if isinstance(texts, list) else [text_of(texts)]


def _render(
    positions: Sequence[_Position], rankings: Sequence[Ranking], model: str
) -> dict[str, Any]:
    scores = [{hit.index: hit.score for hit in ranking} for ranking in rankings]
    tokens = sum(ranking.usage.tokens for ranking in rankings)
    return {
        "id": f"score-{uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [
            {"index": index, "object": "score", "score": scores[position.query][position.document]}
            for index, position in enumerate(positions)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }


API = Api(
    name="score",
    title="vLLM",
    body=Body,
    parse=parse,
    example_request={
        "model": "Qwen/Qwen3-Reranker-0.6B",
        "text_1": "How do I copy a folder?",
        "text_2": [
            "random.shuffle(x) shuffles a list.",
            "shutil.copytree() copies a directory tree.",
        ],
    },
    example_answer={
        "id": "score-8f14e45f",
        "object": "list",
        "created": 1798761600,
        "model": "Qwen/Qwen3-Reranker-0.6B",
        "data": [
            {"index": 0, "object": "score", "score": 0.01},
            {"index": 1, "object": "score", "score": 0.98},
        ],
        "usage": {"prompt_tokens": 171, "total_tokens": 171, "completion_tokens": 0},
    },
)
"""The API."""
