"""Run a gateway in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from qwen3_reranker.errors import InputError, RerankerError

__all__ = ["GatewayServer", "listen"]

_logger = logging.getLogger(__name__)

# Seconds in which connections that are open may still send a request, after a signal to stop.
_GRACE = 0.5
_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """
    Return a socket that listens.

    Args:
        host: The name or address of an interface of this machine.
        port: The port; 0 takes any that is free.

    Raises:
        InputError: The port is in use or not allowed, or the host is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError) as error:
        raise InputError(
            f"host={host!r}: it is not known here ({error}): give an address of this machine, such "
            "as 127.0.0.1, or 0.0.0.0 for all networks"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(_why(host, port, error)) from error
    return listener


def _why(host: str, port: int, error: OSError | OverflowError) -> str:
    """Return why an address cannot be listened on, and what to do."""
    if isinstance(error, OverflowError):
        return f"port={port}: give a number from 1 to 65535"
    if error.errno == errno.EADDRINUSE:
        return f"port={port} is used by another program: give another port, or end that program"
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"host={host!r} is no address of this machine: give 127.0.0.1, or 0.0.0.0 for all "
            "networks"
        )
    if error.errno == errno.EACCES:
        return f"port={port}: only an administrator may use it: give one above 1023"
    return f"cannot listen on {host}, port={port}: {error.strerror}"


class GatewayServer:
    """
    Serve an application until SIGINT or SIGTERM.

    On the first signal it stops accepting connections, answers what it has accepted, and returns.
    On a second one it does not wait for answers.

    Args:
        listener: Where to listen, as `listen()` returns it. It is closed at the end.
        on_started: Called when connections are accepted.
    """

    def __init__(
        self, listener: socket.socket, on_started: Callable[[], None] | None = None
    ) -> None:
        self._listener = listener
        self._on_started = on_started
        self._error: RerankerError | None = None
        self._server: _Server | None = None

    def fail(self, error: RerankerError) -> None:
        """Stop, and let `run()` raise an error. Call it on the application's event loop."""
        self._error = error
        if self._server is not None:
            self._server.should_exit = True

    def run(self, app: FastAPI) -> None:
        """
        Serve an application on this thread.

        Raises:
            RerankerError: What `fail()` was called with.
        """
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", server_header=False
        )
        self._server = _Server(config, self._on_started)
        with _signals(self._server.stop):
            asyncio.run(self._server.serve(sockets=[self._listener]))
        if self._error is not None:
            raise self._error


class _Server(uvicorn.Server):
    """uvicorn, with signals handled by the caller, and connections that end after an answer."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._started_callback = on_started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self, *_: int | FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._started_callback is not None:
            self._started_callback()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # Clients learn that their connection ends together with an answer.
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        await asyncio.sleep(0 if self.force_exit else _GRACE)
        await super().shutdown(sockets)


@contextmanager
def _signals(stop: Callable[..., Any]) -> Iterator[None]:
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
