"""Serve an application in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from qwen3_reranker.errors import MissingDependencyError

try:
    import uvicorn
    from uvicorn.server import HANDLED_SIGNALS
except ModuleNotFoundError as error:
    if error.name != "uvicorn":
        raise
    raise MissingDependencyError(
        f"serving needs uvicorn: pip install 'qwen3-reranker[gateway]' ({error})"
    ) from error

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Message, Receive, Scope, Send

__all__ = ["AppServer"]

# Seconds in which connections that are open may still send a request, after a signal to stop.
_GRACE = 0.5
# Seconds for which an idle connection is kept. It is longer than clients and proxies usually keep
# theirs, so that they do not send a request on a connection that is being closed.
_KEEP_ALIVE = 75


class AppServer(uvicorn.Server):
    """
    Serve an application until it is told to stop.

    Then it stops accepting connections, answers what it has accepted, and returns. Told a second
    time, it does not wait for scores: what has not been answered fails. Answers that have no end of
    their own have to end when the event at `app.state.stopping` is set.

    Args:
        app: The application.
        listener: Where to listen, as `listen()` returns it. It is closed at the end.
        on_started: Called when connections are accepted.
    """

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        on_started: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                log_config=None,
                access_log=False,
                lifespan="on",
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )
        self._app = app
        self._listener = listener
        self._on_started = on_started
        self._stopping = app.state.stopping = asyncio.Event()

    def stop(self, *_: int | FrameType | None) -> None:
        """Stop. It is a signal handler, and can be called from any thread."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def run_here(self) -> None:
        """Serve on this thread. On the main thread, SIGINT and SIGTERM stop it."""
        asyncio.run(self.serve(sockets=[self._listener]))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer; say that the connection ends if the server stops."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._stopping.is_set():
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_closing)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving, and do not raise them again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.stop) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        await super().startup(sockets)
        if self._on_started is not None:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """
        Stop accepting connections, and return when all requests have been answered.

        A client may be sending a request at this moment on a connection that was idle. Such
        requests are answered, too, and all answers say that the connection ends with them.
        """
        for server in self.servers:
            server.close()
        self._stopping.set()
        await asyncio.sleep(0 if self.force_exit else _GRACE)
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves the engine running then, and requests unanswered
            await self.lifespan.shutdown()
            if self.server_state.tasks:
                await asyncio.wait(self.server_state.tasks, timeout=_GRACE)
