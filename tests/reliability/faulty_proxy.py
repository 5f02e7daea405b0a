"""A proxy before a real server, which spoils some of the answers that it passes on."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx

__all__ = ["FAULTS", "FaultyProxy"]

Entries = list[dict[str, Any]]

# The share of the requests that a fault hits.
_SHARE = 0.5
# A slow answer comes so many seconds late.
_SLOW = (0.5, 3.0)


@dataclass(frozen=True)
class _Answer:
    """A server's answer, as it is sent on."""

    status: int
    body: bytes
    more: str = ""  # a header


def _shuffled(entries: Entries) -> None:
    """Put the entries in another order; each keeps its index, so the answer is right."""
    entries.append(entries.pop(0))


def _not_a_number(entries: Entries) -> None:
    entry = random.choice(entries)
    for name in ("relevance_score", "score"):
        if name in entry:
            entry[name] = float("nan")
    if "probs" in entry:
        entry["probs"] = [float("nan")]


def _short(entries: Entries) -> None:
    entries.pop()


def _doubled(entries: Entries) -> None:
    """Give a document twice, in the place of another one if there is one."""
    entries[-1] = dict(entries[0]) if len(entries) > 1 else entries[0]
    entries.extend(entries[:1] if len(entries) == 1 else [])


_SPOILED: dict[str, Callable[[Entries], None]] = {
    "shuffled": _shuffled,
    "not a number": _not_a_number,
    "short": _short,
    "doubled": _doubled,
}
FAULTS = ("reset", "storm", "slow", *_SPOILED)
"""
The names of the faults.

- reset: the connection is reset in the middle of the body.
- storm: status 429, with Retry-After.
- slow: the answer comes late.
- shuffled: the scores come in another order, each with its index. This is a right answer.
- not a number, short, doubled: a score is NaN, one is missing, or one document has two.
"""


class FaultyProxy:
    """
    A proxy that runs during a `with` block, on a thread of its own.

    Args:
        upstream: The URL of the server.

    Attributes:
        fault: The fault that half of the POST requests meet; None passes everything on.
        met: How many answers each fault has spoiled. Others had nothing to spoil.
    """

    def __init__(self, upstream: str) -> None:
        self.fault: str | None = None
        self.met: Counter[str] = Counter()
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._handlers: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _start(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while await self._pass_on(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection can be used again."""
        request = await _read(reader)
        fault = self.fault if request.method == "POST" and random.random() < _SHARE else None
        if fault == "storm":
            self.met[fault] += 1
            message = {"error": {"message": "Too Many Requests", "code": "429"}}
            answer = _Answer(429, json.dumps(message).encode(), "Retry-After: 1\r\n")
        else:
            # A client that goes away takes its request out of the server, as proxies do.
            asking = asyncio.ensure_future(self._ask(request, fault))
            leaving = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                if not asking.done():
                    asking.cancel()
            with suppress(asyncio.CancelledError):
                await leaving
            if asking.cancelled() or not asking.done():
                return False
            answer = asking.result()
        head = (
            f"HTTP/1.1 {answer.status} Status\r\nContent-Type: application/json\r\n{answer.more}"
            f"Content-Length: {len(answer.body)}\r\n\r\n"
        )
        if fault == "reset":
            writer.write(head.encode() + answer.body[: len(answer.body) // 2])
            await writer.drain()
            linger = struct.pack("ii", 1, 0)  # closing then sends RST
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            self.met[fault] += 1
            return False
        writer.write(head.encode() + answer.body)
        await writer.drain()
        return True

    async def _ask(self, request: httpx.Request, fault: str | None) -> _Answer:
        """Return the server's answer, spoiled if the fault asks for that."""
        if fault == "slow":
            await asyncio.sleep(random.uniform(*_SLOW))
            self.met[fault] += 1
        try:
            response = await self._client.send(_forwarded(request, self._upstream))
        except httpx.TransportError:
            return _Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>")
        answer = _Answer(response.status_code, response.content)
        spoil = _SPOILED.get(fault or "")
        if spoil is None or answer.status != 200:
            return answer
        body = response.json()
        entries = body.get("results") or body.get("data")
        if not entries:
            return answer
        before = json.dumps(body)
        spoil(entries)
        spoiled = json.dumps(body)
        self.met[fault or ""] += spoiled != before
        return replace(answer, body=spoiled.encode())


def _forwarded(request: httpx.Request, upstream: str) -> httpx.Request:
    """Return a request as the server gets it."""
    kept = ("content-type", "authorization")
    headers = {name: request.headers[name] for name in kept if name in request.headers}
    url = upstream + request.url.raw_path.decode()
    return httpx.Request(request.method, url, headers=headers, content=request.content)


async def _read(reader: asyncio.StreamReader) -> httpx.Request:
    """Read a request from a connection."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = httpx.Headers(headers).get("content-length", "0")
    body = await reader.readexactly(int(length))
    return httpx.Request(method, f"http://proxy{path}", headers=headers, content=body)
