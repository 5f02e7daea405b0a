"""The line that a gateway writes for a request."""

from __future__ import annotations

import errno
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.gateway import AliasConfig, GatewayConfig, RequestRecord
from qwen3_reranker.gateway.access_log import access_log

from support.gateway import RelevanceScorer, gateway
from support.scripted_server import DOCUMENTS, QUERY

BODY = {"query": QUERY, "documents": DOCUMENTS}
CONFIG = GatewayConfig(aliases={"faq": AliasConfig()}, keys=("the-key",))
KEY = {"Authorization": "Bearer the-key"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def logged(
    chosen: Any, body: Any = None, path: str = "/v1/rerank", **headers: str
) -> tuple[str, Any]:
    """Send a request; return what was logged, and the answer."""
    stream = io.StringIO()
    observers = access_log(chosen, stream)
    async with gateway(RelevanceScorer(), CONFIG, observers=observers) as client:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            response = await client.get(path, headers=KEY | names)
        else:
            response = await client.post(path, json=body, headers=KEY | names)
    return stream.getvalue(), response


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
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    observers = access_log("text", Full())
    async with gateway(RelevanceScorer(), CONFIG, observers=observers) as client:
        for _ in range(2):
            assert (await client.post("/rerank", json=BODY, headers=KEY)).status_code == 200


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_an_alias_that_the_console_cannot_show_is_escaped(chosen: Any) -> None:
    raw = io.BytesIO()
    [observe] = access_log(chosen, io.TextIOWrapper(raw, encoding="ascii"))
    observe(RequestRecord("POST", "/rerank", "id", api="rerank", alias="é问😀", status=200))
    line = raw.getvalue().decode()
    if chosen == "json":
        assert json.loads(line)["model"] == "é问😀"
    else:
        assert r"\xe9\u95ee\U0001f600" in line


def test_waiting_for_a_gateway_that_starts_is_not_logged() -> None:
    stream = io.StringIO()
    [observe] = access_log("json", stream)
    observe(RequestRecord("GET", "/ready", "id", status=503))
    assert not stream.getvalue()


async def test_a_refusal_has_an_id_too() -> None:
    stream = io.StringIO()
    observers = access_log("json", stream)
    async with gateway(RelevanceScorer(), CONFIG, observers=observers) as client:
        response = await client.post("/rerank", json=BODY)
    assert response.status_code == json.loads(stream.getvalue())["status"] == 401
    assert response.headers["x-request-id"]


@given(
    path=st.text(),
    method=st.sampled_from(["GET", "POST"]),
    chosen=st.sampled_from(["json", "text"]),
)
def test_a_request_is_always_one_line(path: str, method: str, chosen: Any) -> None:
    stream = io.StringIO()
    [observe] = access_log(chosen, stream)
    observe(RequestRecord("GET", path, "id", status=404))
    line = stream.getvalue()
    assert len(line.splitlines()) == 1 and line.endswith("\n") and len(line) < 1500
