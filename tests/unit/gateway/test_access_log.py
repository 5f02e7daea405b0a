"""The line that a gateway writes for a request."""

from __future__ import annotations

import asyncio
import errno
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.gateway import AliasConfig, GatewayConfig, Limits, RequestRecord
from qwen3_reranker.gateway.access_log import access_log

from support.gateway import RelevanceScorer, gateway
from support.scripted_server import DOCUMENTS, QUERY

BODY = {"query": QUERY, "documents": DOCUMENTS}
CONFIG = GatewayConfig(aliases={"faq": AliasConfig()}, keys=("the-key",))
KEY = {"Authorization": "Bearer the-key"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Log:
    """A stream in memory."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._bytes = io.BytesIO()
        self.stream = io.TextIOWrapper(self._bytes, encoding)

    @property
    def text(self) -> str:
        return self._bytes.getvalue().decode()


class Full(io.RawIOBase):
    """A file on a disk that has no space left."""

    def writable(self) -> bool:
        return True

    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def logged(
    chosen: Any, body: Any = None, path: str = "/v1/rerank", **headers: str
) -> tuple[str, Any]:
    """Send a request; return what was logged, and the answer."""
    log = Log()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with access_log(chosen, log.stream) as observers:
        async with gateway(RelevanceScorer(), CONFIG, observers=observers) as client:
            if body is None:
                response = await client.get(path, headers=KEY | names)
            else:
                response = await client.post(path, json=body, headers=KEY | names)
    return log.text, response


def line_for(chosen: Any, record: RequestRecord, encoding: str = "utf-8") -> str:
    """Return what is logged for a request."""
    log = Log(encoding)
    with access_log(chosen, log.stream) as [observe]:
        observe(record)
    return log.text


async def test_json_says_what_a_request_was_and_cost() -> None:
    before = datetime.now(UTC).timestamp()
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    line, response = await logged(
        "json", BODY | {"model": "faq"}, x_request_id="abc-1", traceparent=parent
    )
    entry = json.loads(line)
    assert entry.pop("request_id") == response.headers["x-request-id"] == "abc-1"
    moment = datetime.fromisoformat(entry.pop("time"))
    assert before - 1 < moment.timestamp() <= datetime.now(UTC).timestamp()
    seconds = {name: entry.pop(name) for name in list(entry) if name.endswith("seconds")}
    assert seconds["seconds"] >= seconds["queue_seconds"] + seconds["scoring_seconds"] > 0
    assert entry == {
        "trace_id": TRACE,
        "method": "POST",
        "path": "/v1/rerank",
        "status": 200,
        "api": "rerank",
        "model": "faq",
        "documents": len(DOCUMENTS),
        "tokens": sum(map(len, DOCUMENTS)),
        "truncated": 0,
        "cached": 0,
    }


@pytest.mark.parametrize("chosen", ["json", "text"])
async def test_texts_and_keys_are_never_logged(chosen: str) -> None:
    bodies: list[Any] = [BODY | {"instruction": "zebra"}, {"query": "zebra"}, {"zebra": 1}]
    for body in bodies:
        line, _ = await logged(chosen, body)
        assert line.count("\n") == 1
        for text in (QUERY, "zebra", "the-key", *DOCUMENTS):
            assert text not in line


@pytest.mark.parametrize(
    ("path", "chosen", "written"),
    [
        ("/health", "json", False),
        ("/metrics", "text", False),
        ("/v1/models", "json", False),
        ("/unknown", "json", True),
        ("/unknown", "none", False),
    ],
)
async def test_other_requests_are_logged_if_they_fail(
    path: str, chosen: str, written: bool
) -> None:
    assert bool((await logged(chosen, path=path))[0]) == written


@pytest.mark.parametrize("given_id", ["", "a b", "x" * 129, "a\tb", "a;b"])
async def test_a_request_id_that_would_break_a_log_is_replaced(given_id: str) -> None:
    line, response = await logged("json", BODY, x_request_id=given_id)
    made = response.headers["x-request-id"]
    assert made != given_id and len(made) == 32
    assert json.loads(line)["request_id"] == made


@pytest.mark.parametrize("parent", ["", "zebra", f"00-{'0' * 32}-b7ad6b7169203331-01", "00-1-2-3"])
async def test_a_traceparent_that_is_none_is_ignored(parent: str) -> None:
    line, _ = await logged("json", BODY, traceparent=parent)
    assert json.loads(line)["trace_id"] is None


async def test_requests_are_answered_although_the_log_cannot_be_written() -> None:
    stream = io.TextIOWrapper(io.BufferedWriter(Full()))
    with access_log("text", stream) as observers:
        async with gateway(RelevanceScorer(), CONFIG, observers=observers) as client:
            for _ in range(2):
                assert (await client.post("/rerank", json=BODY, headers=KEY)).status_code == 200


async def test_a_request_that_times_out_in_the_queue_has_waited() -> None:
    async def late_body() -> AsyncIterator[bytes]:
        accepted.set()
        while not scorer.calls:
            await asyncio.sleep(0.001)
        yield json.dumps(BODY).encode()

    scorer, accepted = RelevanceScorer(), asyncio.Event()
    scorer.go_on.clear()
    config = GatewayConfig(limits=Limits(max_active=1, request_timeout=0.5))
    log = Log()
    with access_log("json", log.stream) as observers:
        async with gateway(scorer, config, observers=observers) as client:
            # It is the first whose time is up, and waits for the other one.
            queued = asyncio.create_task(client.post("/rerank", content=late_body()))
            await accepted.wait()
            scored = await client.post("/rerank", json=BODY)
            assert [(await queued).status_code, scored.status_code] == [504, 504]
            metrics = (await client.get("/metrics", headers=KEY)).text
    assert "qwen3_reranker_queue_duration_seconds_count 2.0" in metrics
    assert 'qwen3_reranker_scoring_duration_seconds_count{model="relevance"} 1.0' in metrics
    first, second = map(json.loads, log.text.splitlines())
    assert first["queue_seconds"] > 0
    assert first["scoring_seconds"] is None
    assert second["scoring_seconds"] > second["queue_seconds"]


async def test_a_refused_request_has_neither_waited_nor_been_scored() -> None:
    line, _ = await logged("json", {"query": QUERY})
    entry = json.loads(line)
    assert (entry["status"], entry["queue_seconds"], entry["scoring_seconds"]) == (422, None, None)


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_an_alias_that_the_console_cannot_show_is_escaped(chosen: Any) -> None:
    record = RequestRecord("POST", "/rerank", "id", api="rerank", alias="é问😀", status=200)
    line = line_for(chosen, record, "ascii")
    if chosen == "json":
        assert json.loads(line)["model"] == "é问😀"
    else:
        assert r"\xe9\u95ee\U0001f600" in line


def test_waiting_for_a_gateway_that_starts_is_not_logged() -> None:
    assert not line_for("json", RequestRecord("GET", "/ready", "id", status=503))


async def test_a_refusal_has_an_id_too() -> None:
    log = Log()
    with access_log("json", log.stream) as observers:
        async with gateway(RelevanceScorer(), CONFIG, observers=observers) as client:
            response = await client.post("/rerank", json=BODY)
    assert response.status_code == json.loads(log.text)["status"] == 401
    assert response.headers["x-request-id"]


@given(
    path=st.text(),
    method=st.sampled_from(["GET", "POST"]),
    chosen=st.sampled_from(["json", "text"]),
)
def test_a_request_is_always_one_line(path: str, method: str, chosen: Any) -> None:
    line = line_for(chosen, RequestRecord(method, path, "id", status=404))
    assert len(line.splitlines()) == 1 and line.endswith("\n") and len(line) < 1500
