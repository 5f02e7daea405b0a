"""Let go of the tabs that show a page when its server stops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["EndStreams"]


class EndStreams:
    """
    An ASGI middleware that ends the streams of a page when the server stops.

    Each tab that shows the page keeps a connection open on which it waits for news, and a server
    that waits for its answers would wait for the tab to be closed. A server says that it stops by
    setting the `asyncio.Event` at `app.state.stopping`. Without one, nothing is ended here.

    Args:
        app: The application.
        path: The path of the page.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._prefix = f"{path.rstrip('/')}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        stopping = None
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            stopping = getattr(scope["app"].state, "stopping", None)
        if stopping is None:
            await self._app(scope, receive, send)
        else:
            await _Exchange(receive, send, stopping).run(self._app, scope)


class _Exchange:
    """A request whose client seems to go away when the server stops."""

    def __init__(self, receive: Receive, send: Send, stopping: asyncio.Event) -> None:
        self._receive = receive
        self._send = send
        self._stopping = stopping
        self._read = False
        self._unfinished = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Process the request, and complete an answer that was ended early."""
        await app(scope, self._receive_or_end, self._send_noted)
        if self._unfinished:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _receive_or_end(self) -> Message:
        if not self._read:
            message = await self._receive()
            self._read = not message.get("more_body", False)
            return message
        news = asyncio.ensure_future(self._receive())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([news, stop], return_when=asyncio.FIRST_COMPLETED)
            return news.result() if news.done() else {"type": "http.disconnect"}
        finally:
            news.cancel()
            stop.cancel()

    async def _send_noted(self, message: Message) -> None:
        self._unfinished = message.get("more_body", message["type"] == "http.response.start")
        await self._send(message)
