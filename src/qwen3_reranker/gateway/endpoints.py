"""The endpoints that score: their paths, and the APIs that each of them speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.gateway.api import nvidia, rerank, score, tei
from qwen3_reranker.gateway.api.api import Api
from qwen3_reranker.gateway.paths import RANKING, RERANK, SCORE

__all__ = ["ENDPOINTS", "Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    An endpoint that scores.

    Attributes:
        paths: Its paths, which are equivalent.
        summary: Whose clients use it.
        apis: What it speaks: the usual API, and after it those with a field that tells them apart.
    """

    paths: Sequence[str]
    summary: str
    apis: Sequence[Api]

    def api_of(self, body: Mapping[str, Any]) -> Api:
        """Return the API that a request's body is written in."""
        usual, *others = self.apis
        for api in others:
            if api is tei.API and "texts" in body and "documents" not in body:
                return api
        return usual


ENDPOINTS = (
    Endpoint(
        RERANK,
        "Rank documents (Jina, Cohere, vLLM, Xinference, SiliconFlow, TEI)",
        (rerank.API, tei.API),
    ),
    Endpoint(SCORE, "Score pairs of texts (vLLM)", (score.API,)),
    Endpoint(RANKING, "Rank passages (NVIDIA NIM)", (nvidia.API,)),
)
"""All endpoints that score."""
