"""Callers that ask again and again until a run ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import httpx

from reliability.cases import Case
from reliability.tally import Answer, RefusedError, Tally

__all__ = ["Ask", "keep_asking", "over_http"]

Ask = Callable[[Case], Awaitable[Answer]]
"""Asks for the scores of a case. It raises `RefusedError` if it was refused in so many words."""


async def keep_asking(
    ask: Ask, cases: Iterator[Case], tally: Tally, *, callers: int, until: asyncio.Event
) -> None:
    """
    Have callers ask one case after the other, and return when the last one has its answer.

    Args:
        ask: Asks for the scores of a case.
        cases: What to ask, shared by all callers.
        tally: Where the answers are counted.
        callers: How many ask at a time.
        until: Ends the run: no caller begins another call once it is set.
    """

    async def call() -> None:
        while not until.is_set():
            case = next(cases)
            began = time.perf_counter()
            try:
                answer = await ask(case)
            except Exception as error:  # noqa: BLE001  # the tally says what it was
                tally.failed(case, error)
            else:
                tally.answered(case, answer, time.perf_counter() - began)

    await asyncio.gather(*(call() for _ in range(callers)))


def over_http(client: httpx.AsyncClient, url: str, *, key: str = "") -> Ask:
    """
    Return a function that asks a server with Jina's API, as a gateway and vLLM speak it.

    Args:
        client: Sends the requests.
        url: The URL of the endpoint.
        key: The API key; "" for none.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def ask(case: Case) -> Sequence[tuple[int, float]]:
        body = {"query": case.query, "documents": list(case.documents)}
        response = await client.post(url, json=body, headers=headers)
        if response.status_code in (429, 503) and "Retry-After" in response.headers:
            raise RefusedError(response.text)
        response.raise_for_status()
        results = response.json()["results"]
        return [(result["index"], result["relevance_score"]) for result in results]

    return ask
