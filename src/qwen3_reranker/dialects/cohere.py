"""
Jina's and Cohere's own services, as documented in 2026.

    POST /v1/rerank  {"model", "query", "documents", "top_n", "return_documents"}   Jina, Cohere v1
    POST /v2/rerank  {"model", "query", "documents", "top_n"}                       Cohere v2
    {"results": [{"index": 0, "relevance_score": 0.98}], ...}

They serve models of their own, write what these need, and take no instruction. Servers that
only speak their language are met by `rerank`.
"""

from __future__ import annotations

from qwen3_reranker.dialects.base import Limits
from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["CohereV1", "CohereV2", "Jina"]


class Jina(RerankDialect):
    """Jina AI's `/v1/rerank`."""

    name = "jina"
    kind = "Jina"
    paths = ("/v1/rerank",)
    limits = Limits(documents=1000)
    default_model = "jina-reranker-v3"
    hosts = ("jina.ai",)
    key_variables = ("JINA_API_KEY",)


class CohereV2(RerankDialect):
    """Cohere's `/v2/rerank`, which never returns documents."""

    name = "cohere-v2"
    kind = "Cohere"
    paths = ("/v2/rerank",)
    extra = {}  # noqa: RUF012
    limits = Limits(documents=1000)
    default_model = "rerank-v3.5"
    hosts = ("cohere.com", "cohere.ai")
    key_variables = ("CO_API_KEY", "COHERE_API_KEY")


class CohereV1(CohereV2):
    """Cohere's `/v1/rerank`."""

    name = "cohere-v1"
    kind = "Cohere"
    paths = ("/v1/rerank",)
    extra = {"return_documents": False}  # noqa: RUF012
