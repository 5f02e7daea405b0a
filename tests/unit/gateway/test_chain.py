"""A gateway as the server of a `Reranker`."""

from __future__ import annotations

import pytest

from qwen3_reranker import Reranker, ServerError
from qwen3_reranker.gateway import AliasConfig, GatewayConfig
from qwen3_reranker.gateway.keys import VARIABLE

from support.gateway import RelevanceScorer, running
from support.scripted_server import DOCUMENTS, QUERY, relevance

pytestmark = pytest.mark.slow


async def test_a_reranker_detects_a_gateway_and_sends_it_instructions() -> None:
    scorer = RelevanceScorer()
    with running(scorer) as gateway, Reranker(base_url=gateway.url) as reranker:
        assert "dialect gateway at /v1/score" in reranker.describe()
        hits = reranker.rerank(QUERY, DOCUMENTS, instruction="Find the source")
        wanted = {i: relevance(QUERY, text, "Find the source") for i, text in enumerate(DOCUMENTS)}
        assert {hit.index: hit.score for hit in hits} == wanted
        assert (QUERY, DOCUMENTS, "Find the source") in scorer.calls


async def test_a_gateway_cuts_documents_so_that_a_client_has_not_to() -> None:
    with (
        running(RelevanceScorer()) as gateway,
        Reranker(base_url=gateway.url, on_unsupported="raise") as reranker,
    ):
        document = "x" * 20_000  # more bytes than the client's max_length
        assert reranker.score(QUERY, [document]) == [relevance(QUERY, document)]


def test_the_key_of_the_environment_is_sent_to_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "the-key")
    with (
        running(RelevanceScorer(), GatewayConfig(keys=("the-key",))) as gateway,
        Reranker(base_url=gateway.url) as reranker,
    ):
        assert reranker.score(QUERY, DOCUMENTS) == [relevance(QUERY, text) for text in DOCUMENTS]
        assert "dialect gateway at /v1/score" in reranker.describe()


async def test_an_alias_scores_all_documents_with_its_instruction() -> None:
    config = GatewayConfig(
        aliases={"sources": AliasConfig(instruction="Find the source", min_score=0.9)}, keys=("k",)
    )
    with running(RelevanceScorer(), config) as gateway:
        with Reranker("sources", base_url=gateway.url, api_key="k") as reranker:
            found = reranker.score(QUERY, DOCUMENTS)
        assert found == [relevance(QUERY, text, "Find the source") for text in DOCUMENTS]
        with (
            pytest.raises(ServerError, match="the API key is missing or wrong"),
            Reranker("sources", base_url=gateway.url, api_key="another-key") as reranker,
        ):
            reranker.score(QUERY, DOCUMENTS)
