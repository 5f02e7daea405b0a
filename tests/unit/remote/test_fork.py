"""A remote reranker in a forked child, whose sockets are the parent's too."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from qwen3_reranker import Reranker, event_loop
from qwen3_reranker.remote.transport import Transport

from support.scripted_server import DOCUMENTS, QUERY, RIGHT, ScriptedServer, but

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

SOON = 30


def in_child(work: Callable[[], object]) -> str:
    """Do `work` in a forked child, and return what it returned or raised."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SOON)
        try:
            told = repr(work())
        except BaseException as error:  # noqa: BLE001
            told = repr(error)
        os.write(write, told.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, told
    return told


def until_asked(server: ScriptedServer, requests: int) -> None:
    deadline = time.monotonic() + SOON
    while len(server.asked()) < requests:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def score_and_close(reranker: Reranker) -> list[float]:
    with reranker:
        return reranker.score(QUERY, DOCUMENTS)


CHILDREN: dict[str, tuple[Callable[[Reranker], object], str]] = {
    "closes": (lambda reranker: reranker.close(), "None"),
    "scores and closes": (score_and_close, repr(RIGHT)),
}


@pytest.mark.parametrize("name", CHILDREN)
def test_a_child_leaves_the_requests_of_its_parent_alone(server: ScriptedServer, name: str) -> None:
    work, expected = CHILDREN[name]
    with (
        Reranker(base_url=server.url, max_retries=0) as reranker,
        ThreadPoolExecutor(3) as pool,
    ):
        reranker.warm_up()
        hold = threading.Event()
        server.first(*[but(hold=hold)] * 3)
        before = len(server.asked())
        running = [pool.submit(reranker.score, QUERY, DOCUMENTS) for _ in range(3)]
        until_asked(server, before + 3)
        told = in_child(lambda: work(reranker))
        hold.set()
        assert [future.result(SOON) for future in running] == [RIGHT] * 3
        assert told == expected
        connections = server.connections
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert server.connections == connections  # those of the parent are still open


def test_a_child_that_drops_a_reranker_closes_nothing(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    async def aclose(self: Transport) -> None:
        closed.set()

    holder = [Reranker(base_url=server.url)]
    assert holder[0].score(QUERY, DOCUMENTS) == RIGHT

    def drop() -> bool:
        monkeypatch.setattr(Transport, "aclose", aclose)
        holder.clear()
        gc.collect()
        event_loop.run(asyncio.sleep(0))  # after all that was submitted before
        return closed.is_set()

    assert in_child(drop) == "False"
    with holder[0] as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT


def test_a_child_cannot_use_its_parents_client(server: ScriptedServer) -> None:
    client = httpx.AsyncClient()
    with Reranker(base_url=server.url, http_client=client) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert "http_client belongs to the process" in in_child(
            lambda: reranker.score(QUERY, DOCUMENTS)
        )
        assert in_child(reranker.close) == "None"
        connections = server.connections
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
        assert server.connections == connections
