"""Requests that are canceled at any step of an exchange, and what becomes of their connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from qwen3_reranker.remote.transport import Transport

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_LAST = _ANSWER.replace(b"Content-Type", b"Connection: close\r\nContent-Type")
# What a server sends before it closes the connection; "whole" keeps it open.
_SENT = {"whole": _ANSWER, "last": _LAST, "half": _ANSWER[:-2], "reset": _ANSWER[:-2], "none": b""}
_STEPS = 12


class RawServer:
    """A server in a thread of its own, which answers while the event loop stands still."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/rerank"
        self.ending = "whole"
        self.answered = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while connection.recv(65536):  # one request, which is small
                ending = self.ending
                connection.sendall(_SENT[ending])
                if ending == "reset":
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                if ending != "whole":
                    connection.close()
                self.answered.set()


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(max_connections=1)
    yield transport
    await transport.aclose()


@pytest.mark.parametrize("ending", _SENT)
@pytest.mark.parametrize("count", [1, 3])
async def test_a_request_that_is_canceled_at_any_step_gives_its_connection_back(
    raw_server: RawServer, transport: Transport, count: int, ending: str
) -> None:
    """The only connection is in use, or about to be closed, when all requests are canceled."""
    for steps in range(_STEPS):
        raw_server.ending = "whole"
        # There is only one connection, so this fails if it is still taken.
        await transport.request("GET", raw_server.url, seconds=20)
        raw_server.ending = ending
        raw_server.answered.clear()
        requests = [
            asyncio.create_task(transport.request("GET", raw_server.url)) for _ in range(count)
        ]
        while not raw_server.answered.is_set():
            await asyncio.sleep(0)
        for _ in range(steps):
            await asyncio.sleep(0)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
    raw_server.ending = "whole"
    assert (await transport.request("GET", raw_server.url, seconds=20)).value == {}
