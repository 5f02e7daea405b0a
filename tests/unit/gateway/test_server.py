"""A gateway that serves on loopback: its limits, clients that go away, and its end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest

from qwen3_reranker import InputError, Reranker
from qwen3_reranker.addresses import listen
from qwen3_reranker.gateway import GatewayConfig, Limits, create_app

from support.gateway import RelevanceScorer, Running, running, until
from support.scripted_server import DOCUMENTS

pytestmark = pytest.mark.slow

BODY = {"query": "q", "documents": DOCUMENTS}


@pytest.fixture
def scorer() -> RelevanceScorer:
    """A scorer whose calls wait until `go_on` is set."""
    scorer = RelevanceScorer()
    scorer.go_on.clear()
    return scorer


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def limits(**limits: Any) -> GatewayConfig:
    return GatewayConfig(limits=Limits(**limits))


def post(gateway: Running, query: str = "q", path: str = "/v1/rerank") -> httpx.Response:
    return httpx.post(gateway.url + path, json=BODY | {"query": query}, timeout=30)


def connected(gateway: Running, body: bytes, headers: str = "") -> socket.socket:
    """Return a connection on which a request has been sent."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    head = f"POST /v1/rerank HTTP/1.1\r\nHost: gateway\r\n{headers}\r\n"
    connection.sendall(head.encode() + body)
    return connection


def present(gateway: Running) -> int:
    """Return the number of requests that have been received and not been answered."""
    return len(gateway.server.server_state.tasks)


def with_length(body: bytes) -> str:
    return f"Content-Length: {len(body)}\r\n"


# Clients that go away


def test_a_client_that_goes_away_takes_its_work_out_of_the_engine(scorer: RelevanceScorer) -> None:
    body = json.dumps(BODY).encode()
    records: list[Any] = []
    with running(scorer, observers=[records.append]) as gateway:
        with connected(gateway, body, with_length(body)):
            until(lambda: scorer.calls)
            assert scorer.cancelled == []
        until(lambda: scorer.cancelled == ["q"])
        until(lambda: records)
        assert records[0].status == 499
        scorer.go_on.set()
        assert post(gateway).status_code == 200


def test_a_client_that_goes_away_leaves_the_queue(
    scorer: RelevanceScorer, pool: ThreadPoolExecutor
) -> None:
    body = json.dumps(BODY | {"query": "gone"}).encode()
    with running(scorer, limits(max_active=1, max_queue=1)) as gateway:
        first = pool.submit(post, gateway, "first")
        until(lambda: scorer.calls)
        with connected(gateway, body, with_length(body)):
            until(lambda: present(gateway) == 2)
            assert post(gateway, "refused").status_code == 503
        second = pool.submit(lambda: _until_accepted(gateway, "second"))
        scorer.go_on.set()
        assert first.result().status_code == second.result().status_code == 200
        assert [query for query, *_ in scorer.calls] == ["first", "second"]


def _until_accepted(gateway: Running, query: str) -> httpx.Response:
    while (response := post(gateway, query)).status_code == 503:
        pass
    return response


def test_a_body_that_ends_early_harms_nobody(scorer: RelevanceScorer) -> None:
    scorer.go_on.set()
    with running(scorer) as gateway:
        with connected(gateway, b'{"query":', "Content-Length: 100\r\n"):
            pass
        assert post(gateway).status_code == 200


# Limits


def test_what_exceeds_the_queue_is_refused_at_once(
    scorer: RelevanceScorer, pool: ThreadPoolExecutor
) -> None:
    with running(scorer, limits(max_active=2, max_queue=3)) as gateway:
        accepted = [pool.submit(post, gateway, f"accepted {i}") for i in range(5)]
        until(lambda: len(scorer.calls) == 2)
        until(lambda: present(gateway) == 5)
        refused = post(gateway, "refused")
        assert refused.headers["retry-after"] == "1"
        assert "try again later" in refused.json()["error"]["message"]
        assert len(scorer.calls) == 2
        scorer.go_on.set()
        assert [future.result().status_code for future in accepted] == [200] * 5
        assert post(gateway).status_code == 200


def test_a_request_that_takes_too_long_is_taken_out_of_the_engine(scorer: RelevanceScorer) -> None:
    with running(scorer, limits(request_timeout=0.2)) as gateway:
        response = post(gateway, path="/v2/rerank")
        assert response.status_code == 504
        assert response.json() == {
            "message": "the request could not be answered within 0.2 seconds"
        }
        until(lambda: scorer.cancelled == ["q"])


def test_a_body_that_does_not_arrive_ends_the_wait(scorer: RelevanceScorer) -> None:
    with (
        running(scorer, limits(request_timeout=0.2)) as gateway,
        connected(gateway, b"{", "Content-Length: 100\r\n") as connection,
    ):
        connection.settimeout(10)
        answer = b"".join(iter(lambda: connection.recv(1000), b""))  # until it is closed
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused_before_its_end(
    scorer: RelevanceScorer, declared: bool
) -> None:
    headers = "Content-Length: 1000000000\r\n" if declared else "Transfer-Encoding: chunked\r\n"
    piece = b" " * 1000
    with (
        running(scorer, limits(max_body=5000)) as gateway,
        connected(gateway, b"", headers) as connection,
    ):
        for _ in range(0 if declared else 10):
            with suppress(OSError):
                connection.sendall(piece if declared else b"3e8\r\n" + piece + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


# The end


def test_what_was_accepted_is_answered_after_a_signal_to_stop(
    scorer: RelevanceScorer, pool: ThreadPoolExecutor
) -> None:
    with running(scorer, limits(max_active=3)) as gateway:
        accepted: list[Future[httpx.Response]] = [pool.submit(post, gateway) for _ in range(8)]
        until(lambda: present(gateway) == 8)
        # uvicorn makes a new list every second, and a request keeps that of its arrival.
        headers = gateway.server.server_state.default_headers
        until(lambda: gateway.server.server_state.default_headers is not headers)
        gateway.server.stop()
        until(lambda: _refuses(gateway))
        assert not gateway.ended.is_set()
        scorer.go_on.set()
        responses = [future.result() for future in accepted]
        assert [response.status_code for response in responses] == [200] * 8
        assert {response.headers["connection"] for response in responses} == {"close"}
        assert gateway.ended.wait(10)


def test_a_request_on_an_open_connection_is_answered_while_the_gateway_stops(
    scorer: RelevanceScorer,
) -> None:
    scorer.go_on.set()
    with running(scorer) as gateway, httpx.Client() as client:
        assert client.post(f"{gateway.url}/rerank", json=BODY).status_code == 200
        gateway.server.stop()
        until(lambda: _refuses(gateway))
        late = client.post(f"{gateway.url}/rerank", json=BODY)
        assert (late.status_code, late.headers["connection"]) == (200, "close")


def test_a_second_signal_does_not_wait(scorer: RelevanceScorer, pool: ThreadPoolExecutor) -> None:
    gateway = Running(create_app(partial(Reranker, scorer=scorer)))
    unanswered = pool.submit(post, gateway)
    until(lambda: scorer.calls)
    gateway.server.stop()
    gateway.server.stop()
    assert gateway.ended.wait(10)
    assert scorer.closed
    until(lambda: scorer.cancelled)
    assert unanswered.exception() or unanswered.result().status_code >= 500


def _refuses(gateway: Running) -> bool:
    try:
        socket.create_connection(("127.0.0.1", gateway.port), timeout=30).close()
    except OSError:
        return True
    return False


# Where to listen


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=rf"port={port} is used by another program: give ano"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("192.0.2.1", 0, "host='192.0.2.1' is no address of this machine: give 127.0.0.1"),
        ("no such host", 0, "host='no such host': it is not known here"),
        ("127.0.0.1", 70000, "port=70000: give a number from 1 to 65535"),
        ("127.0.0.1", -1, "port=-1: give a number from 1 to 65535"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(host: str, port: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        listen(host, port)
