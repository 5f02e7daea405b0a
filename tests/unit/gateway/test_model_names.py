"""The name of a gateway's model: as its servers name it, also while they are away; never a URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from qwen3_reranker import InputError, Reranker, RerankerError
from qwen3_reranker.cli.gateway_page import add_page
from qwen3_reranker.gateway import AliasConfig, GatewayConfig, Limits, create_app

from support.gateway import RelevanceScorer, client_of
from support.scripted_server import DOCUMENTS, MODEL, QUERY, VLLM, Reply, ScriptedServer

BODY: dict[str, Any] = {"query": QUERY, "documents": DOCUMENTS}
ALIASES = GatewayConfig(aliases={"tickets": AliasConfig(instruction="Find bugs")})
HANGS_UP = Reply(status=None)
NAMELESS = {key: value for key, value in VLLM.items() if key != ("GET", "/v1/models")}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@asynccontextmanager
async def gateway_before(
    url: str, config: GatewayConfig = ALIASES, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a gateway before a server, which is asked once for each request."""
    make = partial(Reranker, base_url=url, tokenizer="demo", max_retries=0)
    async with client_of(create_app(make, config, **settings)) as client:
        yield client


async def rank(client: httpx.AsyncClient, model: str | None) -> httpx.Response:
    return await client.post("/v1/rerank", json=BODY | {"model": model})


async def test_a_lost_connection_does_not_change_the_models_name(server: ScriptedServer) -> None:
    async with gateway_before(server.url) as client:
        assert (await rank(client, MODEL)).status_code == 200
        server.always(HANGS_UP)
        assert (await rank(client, MODEL)).status_code == 503
        listed = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == [MODEL, "tickets"]
        assert (await rank(client, MODEL)).status_code == 503
        server.always(VLLM["POST", "/classify"])
        response = await rank(client, MODEL)
        assert (response.status_code, response.json()["model"]) == (200, MODEL)


async def test_until_a_server_names_the_model_its_url_is_no_name() -> None:
    with ScriptedServer() as server:
        pass  # nothing listens there any more
    async with gateway_before(server.url) as client:
        for path in ("/v1/models", "/v1/models/tickets", "/info"):
            response = await client.get(path)
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert str(server.port) not in response.text
        for model in (None, MODEL, "tickets"):
            response = await rank(client, model)
            assert response.status_code == 503
            assert str(server.port) not in response.text
        with server:
            response = await rank(client, MODEL)
            assert (response.status_code, response.json()["model"]) == (200, MODEL)
            assert (await client.get("/info")).json()["model_id"] == MODEL
        metrics = (await client.get("/metrics")).text
        assert f'model="{server.url}"' not in metrics


async def test_the_first_request_waits_until_the_model_has_a_name(server: ScriptedServer) -> None:
    async with gateway_before(server.url) as client:
        response = await rank(client, MODEL)
        assert (response.status_code, response.json()["model"]) == (200, MODEL)


async def test_a_mounted_gateway_finds_the_name_out_when_it_is_asked(
    server: ScriptedServer,
) -> None:
    """Its lifespan is not run."""
    with Reranker(base_url=server.url, tokenizer="demo") as reranker:
        outer = FastAPI()
        outer.mount("/reranker", create_app(reranker, ALIASES))
        transport = httpx.ASGITransport(outer)
        async with httpx.AsyncClient(transport=transport, base_url="http://outer") as client:
            async with asyncio.timeout(10):
                while (await client.get("/reranker/v1/models")).status_code != 200:
                    await asyncio.sleep(0.005)


async def test_a_model_that_its_server_does_not_name_has_a_name() -> None:
    with ScriptedServer(NAMELESS) as server:
        async with gateway_before(server.url) as client:
            response = await rank(client, None)
            assert (response.status_code, response.json()["model"]) == (200, "reranker")
            assert (await rank(client, "reranker")).status_code == 200
            assert (await rank(client, "tickets")).json()["model"] == "tickets"
            assert (await rank(client, "other")).status_code == 404
            assert (await client.get("/info")).json()["model_id"] == "reranker"


async def test_a_name_that_is_given_needs_no_server() -> None:
    config = GatewayConfig(model="ours")
    async with gateway_before("http://127.0.0.1:9", config) as client:
        assert (await client.get("/v1/models/ours")).json()["id"] == "ours"


@pytest.mark.slow
async def test_the_page_beside_the_gateway_does_not_show_a_url() -> None:
    make = partial(Reranker, base_url="http://127.0.0.1:9")
    app = create_app(make, ALIASES)
    with ExitStack() as stack:
        add_page(app, make, Limits(), str, stack)
        async with client_of(app) as client:
            page = (await client.get("/playground/")).text
    assert "tickets" in page
    assert "127.0.0.1:9" not in page


# An alias that is named like the model


def test_an_alias_named_like_the_model_is_refused_at_once() -> None:
    config = GatewayConfig(aliases={"relevance": AliasConfig(instruction="Find bugs")})
    with (
        Reranker(scorer=RelevanceScorer()) as reranker,
        pytest.raises(InputError, match="the alias 'relevance' is named like the model: rename"),
    ):
        create_app(reranker, config)


@pytest.mark.parametrize(("script", "name"), [(VLLM, MODEL), (NAMELESS, "reranker")])
async def test_an_alias_named_like_the_model_of_a_server_ends_the_start(
    script: Any, name: str
) -> None:
    failed: asyncio.Future[RerankerError] = asyncio.get_running_loop().create_future()
    config = GatewayConfig(aliases={name: AliasConfig(instruction="Find bugs")})
    with ScriptedServer(script) as server:
        async with gateway_before(server.url, config, on_failure=failed.set_result) as client:
            error = await asyncio.wait_for(failed, 10)
            assert (await client.get("/ready")).status_code == 503
    assert str(error) == f"the alias {name!r} is named like the model: rename one"
