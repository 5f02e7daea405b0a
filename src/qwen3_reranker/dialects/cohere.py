"""
Jina's and Cohere's own services, as documented in 2026.

    POST /v1/rerank  {"model", "query", "documents", "top_n", "return_documents"}   Jina, Cohere v1
    POST /v2/rerank  {"model", "query", "documents", "top_n"}                       Cohere v2
    {"results": [{"index": 0, "relevance_score": 0.98}], ...}

These services have models of their own, whose prompts they write, and accept no instruction. For
other servers with the same format there is the dialect `rerank`.
"""

from __future__ import annotations

from qwen3_reranker.dialects.base import Limits
from qwen3_reranker.dialects.rerank import RerankDialect

__all__ = ["CohereV1", "CohereV2", "Jina"]


class Jina(RerankDialect):
    """`/v1/rerank` of Jina AI."""

    name = "jina"
    kind = "Jina"
    paths = ("/v1/rerank",)
    limits = Limits(documents=1000)
    default_model = "jina-reranker-v3"
    hosts = ("jina.ai",)
    key_variables = ("JINA_API_KEY",)


class CohereV2(RerankDialect):
    """`/v2/rerank` of Cohere, which never returns documents."""

    name = "cohere-v2"
    kind = "Cohere"
    paths = ("/v2/rerank",)
    extra = {}  # noqa: RUF012
    limits = Limits(documents=1000)
    default_model = "rerank-v3.5"
    hosts = ("cohere.com", "cohere.ai")
    key_variables = ("CO_API_KEY", "COHERE_API_KEY")


class CohereV1(CohereV2):
    """`/v1/rerank` of Cohere."""

    name = "cohere-v1"
    kind = "Cohere"
    paths = ("/v1/rerank",)
    extra = {"return_documents": False}  # noqa: RUF012
