"""A gateway under load while a server behind it is killed and started again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from reliability.callers import keep_asking, over_http
from reliability.cases import Case, endless
from reliability.tally import Tally
from support.servers.processes import Server

__all__ = ["gateway_server", "load"]


def gateway_server(urls: Sequence[str], log: Path, *more: str) -> Server:
    """
    Return a gateway before servers, as the command starts it. It is not started yet.

    Args:
        urls: The URLs of the servers.
        log: The file for its output, which includes its access log.
        *more: Further arguments of the command.
    """
    # A busy machine is slow, which is no lost answer.
    patience = ("--request-timeout", "300")
    addresses = [word for url in urls for word in ("--base-url", url)]
    command = [sys.executable, "-m", "qwen3_reranker", "gateway", *addresses]
    return Server([*command, "--port", "{port}", *patience, *more], log, health="/ready")


async def load(
    gateway: Server,
    victim: Server,
    cases: Sequence[Case],
    *,
    callers: int,
    seconds: float,
    kills: int = 2,
) -> dict[str, Any]:
    """
    Ask a gateway without a pause, and kill a server behind it and start it again meanwhile.

    The kills are spread over the run. After each one the server is started again at once. The run
    lasts at least as long as it takes the server to start.

    Args:
        gateway: A gateway that runs.
        victim: One of the servers behind it.
        cases: What to ask.
        callers: How many ask at a time.
        seconds: How long they ask.
        kills: How often the server is killed.

    Returns:
        The tally's figures, with what happened at each kill.
    """
    tally, stop = Tally(), asyncio.Event()
    before = await counted(gateway.url)
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    async with httpx.AsyncClient(limits=limits, timeout=360) as client:
        ask = over_http(client, f"{gateway.url}/v1/rerank")
        running = asyncio.create_task(
            keep_asking(ask, endless(cases), tally, callers=callers, until=stop)
        )
        began = time.monotonic()
        events = []
        try:
            for kill in range(kills):
                await asyncio.sleep(began + (kill + 0.5) * seconds / kills - time.monotonic())
                mark = tally.mark()
                await asyncio.to_thread(victim.kill)
                await asyncio.to_thread(victim.start)
                events.append((mark, time.monotonic()))
            await asyncio.sleep(began + seconds - time.monotonic())
        finally:
            stop.set()
            await running
    after = await counted(gateway.url)
    return {
        "callers": callers,
        **tally.figures(),
        "answers_counted_by_the_gateway": after - before,
        "kills": [
            {
                "after_seconds": round(mark.moment - began, 1),
                "up_again_after_seconds": round(up - mark.moment, 1),
                "next_answer_after_seconds": mark.seconds,
            }
            for mark, up in events
        ],
    }


async def counted(url: str) -> int:
    """Return how many requests a gateway has answered with scores, as its metrics say."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics")).text
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "qwen3_reranker_requests_total"
        and (sample.labels["api"], sample.labels["status"]) == ("rerank", "200")
    )
