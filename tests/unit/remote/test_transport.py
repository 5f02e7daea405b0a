"""Requests that are canceled: what becomes of their connections and of their errors."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

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
