"""What each API of the gateway accepts and returns."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from qwen3_reranker.gateway import AliasConfig, GatewayConfig

from support.gateway import RelevanceScorer, gateway
from support.scripted_server import DOCUMENTS, QUERY, RIGHT, relevance

RERANK_PATHS = ["/rerank", "/v1/rerank", "/v2/rerank", "/api/rerank"]
BEST_FIRST = sorted(range(len(RIGHT)), key=lambda index: -RIGHT[index])


async def post(body: Any, path: str = "/v1/rerank", **config: Any) -> httpx.Response:
    async with gateway(RelevanceScorer(), GatewayConfig(**config)) as client:
        return await client.post(path, json=body)


async def results(body: Any, path: str = "/v1/rerank", **config: Any) -> list[dict[str, Any]]:
    response = await post(body, path, **config)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"]
    return found


@pytest.mark.parametrize("path", RERANK_PATHS)
async def test_every_index_comes_once_best_first_with_its_score(path: str) -> None:
    found = await results({"model": "m", "query": QUERY, "documents": DOCUMENTS}, path)
    assert [result["index"] for result in found] == BEST_FIRST
    assert [result["relevance_score"] for result in found] == [RIGHT[i] for i in BEST_FIRST]
    assert all("document" not in result for result in found)


@pytest.mark.parametrize("top_n", [None, 0, -1, 7, 100])
async def test_any_top_n_that_does_not_limit_returns_all(top_n: int | None) -> None:
    assert len(await results({"query": QUERY, "documents": DOCUMENTS, "top_n": top_n})) == 7


async def test_top_n_returns_the_best() -> None:
    found = await results({"query": QUERY, "documents": DOCUMENTS, "top_n": "2"})
    assert [result["index"] for result in found] == BEST_FIRST[:2]


@pytest.mark.parametrize("wanted", [True, "true"])
async def test_return_documents_adds_the_texts_of_either_form(wanted: Any) -> None:
    documents = [DOCUMENTS[0], {"text": DOCUMENTS[1], "title": "more"}]
    body = {"query": QUERY, "documents": documents, "return_documents": wanted}
    texts = {result["index"]: result["document"]["text"] for result in await results(body)}
    assert texts == {0: DOCUMENTS[0], 1: DOCUMENTS[1]}


async def test_tei_gets_a_bare_list() -> None:
    response = await post({"query": QUERY, "texts": DOCUMENTS, "return_text": True}, "/rerank")
    assert response.json() == [
        {"index": i, "text": DOCUMENTS[i], "score": RIGHT[i]} for i in BEST_FIRST
    ]


@pytest.mark.parametrize(
    "fields", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items")]
)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_scores_of_pairs_keep_the_order(path: str, fields: tuple[str, str]) -> None:
    queries = [QUERY, "hills", QUERY]
    body = dict(zip(fields, (queries, DOCUMENTS[:3]), strict=True))
    data = (await post(body, path)).json()["data"]
    wanted = [relevance(q, d) for q, d in zip(queries, DOCUMENTS[:3], strict=True)]
    assert [entry["score"] for entry in data] == wanted
    assert [entry["index"] for entry in data] == [0, 1, 2]


async def test_models_and_aliases_are_listed() -> None:
    config = GatewayConfig(aliases={"faq": AliasConfig(instruction="Find the answer")})
    async with gateway(RelevanceScorer(), config) as client:
        listed = (await client.get("/v1/models")).json()
        assert [entry["id"] for entry in listed["data"]] == ["relevance", "faq"]
        assert (await client.get("/v1/models/faq")).json()["model_type"] == "rerank"
        assert (await client.get("/v1/models/other")).status_code == 404


async def test_an_alias_scores_with_its_instruction() -> None:
    aliases = {"faq": AliasConfig(instruction="Find the answer")}
    body = {"model": "faq", "query": QUERY, "documents": DOCUMENTS[:1]}
    (found,) = await results(body, aliases=aliases)
    assert found["relevance_score"] == relevance(QUERY, DOCUMENTS[0], "Find the answer")


@pytest.mark.parametrize("path", ["/ranking", "/v1/ranking", "/reranking", "/v1/reranking"])
async def test_nvidias_clients_get_log_odds(path: str) -> None:
    passages = [{"text": text} for text in [*DOCUMENTS, " "]]
    answer = (await post({"query": {"text": QUERY}, "passages": passages}, path)).json()
    assert [ranking["index"] for ranking in answer["rankings"]] == [*BEST_FIRST, len(DOCUMENTS)]
    logits = [ranking["logit"] for ranking in answer["rankings"]]
    wanted = [math.log(RIGHT[index] / (1 - RIGHT[index])) for index in BEST_FIRST]
    assert logits[:-1] == pytest.approx(wanted)
    # The blank one's are minus infinity.
    assert logits[-1] == -1000


@pytest.mark.parametrize("keys", [(), ("secret",)])
async def test_xinferences_client_learns_whether_a_key_is_needed(keys: tuple[str, ...]) -> None:
    async with gateway(RelevanceScorer(), GatewayConfig(keys=keys)) as client:
        assert (await client.get("/v1/cluster/auth")).json() == {"auth": bool(keys)}
