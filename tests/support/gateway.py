"""A gateway in the process of a test, whose scores follow from the texts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from qwen3_reranker import Prompt, Reranker, Scorer, Scores
from qwen3_reranker.addresses import listen
from qwen3_reranker.app_server import AppServer
from qwen3_reranker.gateway import GatewayConfig, create_app
from qwen3_reranker.usage import Usage

from support.scripted_server import relevance


class RelevanceScorer(Scorer):
    """
    Scores as a `ScriptedServer` does, and counts a token for each character.

    While `go_on` is not set, its calls wait.
    """

    model = "relevance"
    closed = False

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], str | None]] = []
        self.cancelled: list[str] = []
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.calls.append((query, list(texts), instruction))
        try:
            while not self.go_on.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled.append(query)
            raise
        if self.error is not None:
            raise self.error
        values = [relevance(query, text, instruction) for text in texts]
        usage = Usage(scored=len(texts), tokens=sum(map(len, texts)))
        return Scores(values, [len(text) > 10_000 for text in texts], usage=usage)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an application, which runs its lifespan."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        yield client


@asynccontextmanager
async def gateway(
    scorer: Scorer, config: GatewayConfig | None = None, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a gateway with a scorer."""
    with Reranker(scorer=scorer) as reranker:
        async with client_of(create_app(reranker, config, **settings)) as client:
            yield client


class Running:
    """
    A gateway that serves on loopback, in a thread of the test process.

    Attributes:
        app: The application.
        port: Where it listens.
        url: The same as a URL.
        ended: Is set when the server has returned.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        listener = listen("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.ended = threading.Event()
        started = threading.Event()
        self.server = AppServer(app, listener, started.set)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert started.wait(30)

    def _run(self) -> None:
        self.server.run_here()
        self.ended.set()


@contextmanager
def running(
    scorer: Scorer, config: GatewayConfig | None = None, **settings: Any
) -> Iterator[Running]:
    """Yield a gateway that serves on loopback."""
    with Reranker(scorer=scorer) as reranker:
        gateway = Running(create_app(reranker, config, **settings))
        try:
            yield gateway
        finally:
            gateway.server.stop()
            if isinstance(scorer, RelevanceScorer):
                scorer.go_on.set()
            assert gateway.ended.wait(30)


def until(condition: Callable[[], Any], *, seconds: float = 60) -> None:
    """Wait until a condition holds, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
