"""Connections after requests that are cancelled more than once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from qwen3_reranker.remote.transport import Transport

from support.scripted_server import HANG, Reply, ScriptedServer

BODY = {"model": "m", "input": ["text"]}


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(max_connections=1)
    yield transport
    await transport.aclose()


@pytest.mark.parametrize("steps", range(12))
async def test_a_request_that_is_cancelled_twice_gives_its_connection_back(
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
