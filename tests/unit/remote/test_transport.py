"""Requests that are canceled: what becomes of their connections and of their errors."""

from __future__ import annotations

import asyncio
import gc
import inspect
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from qwen3_reranker.remote import transport as transport_module
from qwen3_reranker.remote.responses import RetryableError
from qwen3_reranker.remote.transport import Transport

from support.scripted_server import HANG, Reply, ScriptedServer


class RudeTransport(httpx.AsyncBaseTransport):
    """Never answers, and fails when it is canceled."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            raise httpx.ReadError("gone") from None
        raise AssertionError("nobody canceled")


BODY = {"model": "m", "input": ["text"]}
RERANK = {"query": "river", "documents": ["a river"]}


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(max_connections=1)
    yield transport
    await transport.aclose()


@pytest.mark.parametrize("steps", range(12))
async def test_a_request_that_is_canceled_twice_gives_its_connection_back(
    server: ScriptedServer, transport: Transport, steps: int
) -> None:
    """The second cancellation comes so many steps of the event loop after the first."""
    url = server.url + "/classify"
    server.always(Reply({"data": []}))
    await transport.request("POST", url, BODY, seconds=60)  # the connection is kept alive
    server.first(HANG)
    before = len(server.asked())
    request = asyncio.create_task(transport.request("POST", url, BODY))
    async with asyncio.timeout(20):
        while len(server.asked()) == before:
            await asyncio.sleep(0.01)
        request.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        # There is only one connection, so this waits for ever if it is still taken.
        response = await transport.request("POST", url, BODY)
    assert response.value == {"data": []}


async def test_an_idle_connection_is_closed_before_the_server_closes_it(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers_patience = inspect.signature(uvicorn.Config).parameters["timeout_keep_alive"].default
    assert servers_patience > transport_module._KEEPALIVE
    for seconds, connections in ((60.0, 1), (0.0, 3)):
        monkeypatch.setattr(transport_module, "_KEEPALIVE", seconds)
        before, transport = server.connections, Transport()
        for _ in range(3):
            await transport.request("POST", server.url + "/v1/rerank", RERANK)
        await transport.aclose()
        assert server.connections - before == connections


async def test_an_error_of_a_canceled_request_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = Transport(client=httpx.AsyncClient(transport=RudeTransport()))
    with pytest.raises(RetryableError, match="no answer within"):
        await transport.request("GET", "http://h/version", seconds=0.01)
    for _ in range(10):  # until the canceled request has failed
        await asyncio.sleep(0)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_transports_read_the_certificate_authorities_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create, made = httpx.create_ssl_context, []

    def counting() -> ssl.SSLContext:
        made.append(create())
        return made[-1]

    monkeypatch.setattr(httpx, "create_ssl_context", counting)
    for number, folder in enumerate(("one", "other"), 1):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / folder))
        for _ in range(3):
            await Transport().aclose()
        assert len(made) == number
