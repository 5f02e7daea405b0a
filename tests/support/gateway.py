"""A gateway in the process of a test, whose scores follow from the texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from qwen3_reranker import Prompt, Reranker, Scorer, Scores
from qwen3_reranker.gateway import GatewayConfig, create_app
from qwen3_reranker.usage import Usage

from support.scripted_server import relevance


class RelevanceScorer(Scorer):
    """Scores as a `ScriptedServer` does, and counts a token for each character."""

    model = "relevance"

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], str | None]] = []
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.calls.append((query, list(texts), instruction))
        if self.error is not None:
            raise self.error
        values = [relevance(query, text, instruction) for text in texts]
        usage = Usage(scored=len(texts), tokens=sum(map(len, texts)))
        return Scores(values, [len(text) > 10_000 for text in texts], usage=usage)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


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
