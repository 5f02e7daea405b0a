"""What servers do wrong, and that each ends in time: in the right error, or the right scores."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_reranker import AnswerError, Reranker, RerankerError, ServerError, ServerUnavailableError
from qwen3_reranker.remote import failover
from qwen3_reranker.remote.responses import retry_after
from qwen3_reranker.remote.scorer import RemoteScorer

from support.scripted_server import (
    DOCUMENTS,
    HANG,
    QUERY,
    RIGHT,
    Reply,
    Request,
    ScriptedServer,
    but,
    classify,
)

pytestmark = pytest.mark.usefixtures("soon")

# What ends within a second or two may take longer on a busy machine.
SOON = 20
TIMEOUT = 1.0

Asked = Callable[[], int]


@pytest.fixture
def reranker(server: ScriptedServer) -> Iterator[Reranker]:
    with Reranker(base_url=server.url, timeout=SOON) as reranker:
        yield reranker.warm_up()


@pytest.fixture
def hasty(server: ScriptedServer, reranker: Reranker) -> Iterator[Reranker]:
    # The patient one is there first: a process's first call imports what it needs.
    with Reranker(base_url=server.url, timeout=TIMEOUT, max_retries=1) as reranker:
        yield reranker.warm_up()


@pytest.fixture
def asked(server: ScriptedServer) -> Asked:
    """Return how many requests for scores came since the last time."""
    seen = 0

    def since() -> int:
        nonlocal seen
        before, seen = seen, len(server.asked())
        return seen - before

    return since


def failure(reranker: Reranker, kind: type[RerankerError]) -> str:
    with pytest.raises(kind) as caught:
        reranker.score(QUERY, DOCUMENTS)
    assert type(caught.value) is kind
    return str(caught.value)


# Slow, silent, cut off


def test_a_slow_answer_within_the_timeout_counts(
    server: ScriptedServer, reranker: Reranker, asked: Asked
) -> None:
    asked()
    server.first(but(wait=0.3))
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert asked() == 1


@pytest.mark.slow
@pytest.mark.parametrize("reply", [HANG, but(drip=0.05)], ids=["silent", "drop by drop"])
def test_an_answer_that_does_not_come_in_time_is_waited_for_once(
    server: ScriptedServer, hasty: Reranker, asked: Asked, reply: Any
) -> None:
    asked()
    server.always(reply)
    message = failure(hasty, ServerUnavailableError)
    assert f"{server.url} gave no answer within 1 s" in message
    assert asked() == 1
    server.always(classify)
    assert hasty.score(QUERY, DOCUMENTS) == RIGHT


HTML = b"<!DOCTYPE html><html><head><title>Bad</title></head><body>Gate &amp; way</body></html>"
PASSING: dict[str, Any] = {
    "reset before the answer": Reply(reset_after=0),
    "reset in the middle": but(reset_after=50),
    "closed without an answer": Reply(b"", status=None),
    "not HTTP": Reply(b"220 smtp.example.com ready\r\n\r\n", status=None),
    "truncated JSON": Reply(b'{"data": [{"index": 0, "probs": [0.5'),
    "an empty body": Reply(b""),
    "broken UTF-8": Reply(b'{"data": "\xff\xfe"}'),
    "endless nesting": Reply(b"[" * 200_000),
    "a page with 200": Reply(HTML),
    "a page with 502": Reply(HTML, 502),
    **{str(status): Reply(b"busy", status) for status in (408, 429, 502, 503, 504)},
}
# After a lost connection the server is detected again, with two requests at the same time.
LOST = {*list(PASSING)[1:4]}


@pytest.mark.parametrize("name", PASSING)
def test_transient_failures_are_retried(
    server: ScriptedServer, reranker: Reranker, asked: Asked, at_once: None, name: str
) -> None:
    asked()
    server.first(PASSING[name])
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert asked() == (4 if name in LOST else 2)


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_persists_is_raised(
    server: ScriptedServer, asked: Asked, at_once: None, name: str
) -> None:
    with Reranker(base_url=server.url, timeout=SOON, max_retries=1) as reranker:
        reranker.warm_up()
        asked()
        server.always(PASSING[name])
        message = failure(reranker, ServerUnavailableError)
        assert asked() in ((2, 3) if name in LOST else (2,))
    assert server.url in message
    assert "2 attempts" in message
    assert "<html" not in message
    if "page" in name:
        assert "Gate & way" in message


def test_a_burst_of_503_is_retried_until_it_ends(
    server: ScriptedServer, reranker: Reranker, asked: Asked, at_once: None
) -> None:
    asked()
    server.first(*[Reply(b"loading", 503)] * 3)
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert asked() == 4


@pytest.mark.parametrize("status", [500, 501, 505])
def test_a_server_that_breaks_on_a_request_is_not_asked_again(
    server: ScriptedServer, reranker: Reranker, asked: Asked, status: int
) -> None:
    asked()
    server.always(Reply({"error": {"message": "CUDA error"}}, status))
    assert "CUDA error" in failure(reranker, ServerUnavailableError)
    assert asked() == 1


def test_a_refused_connection_names_the_server(server: ScriptedServer, at_once: None) -> None:
    with ScriptedServer() as gone:
        pass
    with Reranker(base_url=gone.url, timeout=SOON, max_retries=1) as reranker:
        message = failure(reranker, ServerUnavailableError)
    assert f"no connection to {gone.url}" in message


@pytest.mark.slow
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept(
    server: ScriptedServer, reranker: Reranker, asked: Asked, form: str
) -> None:
    until = int(time.time()) + 2
    header = "0.9" if form == "seconds" else formatdate(until, usegmt=True)
    started = time.monotonic()
    asked()
    server.first(Reply(b"slow down", 429, {"Retry-After": header}))
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert time.monotonic() - started >= 0.9 if form == "seconds" else time.time() >= until
    assert asked() == 2


@pytest.mark.parametrize("header", ["3600", "1e400", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_that_is_too_late_fails_at_once(
    server: ScriptedServer, reranker: Reranker, asked: Asked, header: str
) -> None:
    asked()
    server.always(Reply({"message": "slow down"}, 429, {"Retry-After": header}))
    assert "slow down" in failure(reranker, ServerUnavailableError)
    assert asked() == 1


@given(header=st.from_regex(r"[ -~]{0,40}", fullmatch=True) | st.floats().map(str))
@example(header="Mon, 01 Jan 0001 00:00:00 -0000")
@example(header="Fri, 31 Dec 9999 23:59:59 -0000")
@example(header="1" * 5000)
def test_any_retry_after_is_bounded(header: str) -> None:
    seconds = retry_after(header)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize("header", ["0", "-5", "Wed, 01 Jan 2020 00:00:00 GMT"])
def test_a_retry_after_that_asks_for_no_delay_does_not_replace_the_backoff(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    waits = iter([0.01, 0.02, 0.03])
    monkeypatch.setattr(failover, "_backoff", lambda _: next(waits))
    monkeypatch.setattr(failover, "_jitter", lambda _: 0.0)
    scorer = RemoteScorer(server.url, timeout=SOON)
    with Reranker(scorer=scorer) as reranker:
        reranker.warm_up()
        server.always(Reply({"message": "slow down"}, 429, {"Retry-After": header}))
        failure(reranker, ServerUnavailableError)
        assert next(waits, None) is None  # each wait was at least that of the back-off
        assert scorer.endpoint_stats()[server.url].backoff_seconds > 0


@pytest.mark.slow
def test_clients_do_not_all_return_when_the_delay_is_over(
    server: ScriptedServer, reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "_jitter", lambda _: 0.5)
    started = time.monotonic()
    server.first(Reply(b"slow down", 429, {"Retry-After": "1"}))
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert time.monotonic() - started >= 1.5


@pytest.mark.parametrize("header", ["soon", "-5", "nan", "", "Wed, 99 Foo"])
def test_a_retry_after_that_says_nothing_is_passed_over(
    server: ScriptedServer, reranker: Reranker, at_once: None, header: str
) -> None:
    server.first(Reply(b"", 503, {"Retry-After": header}))
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert retry_after(header) is None


UNREADABLE = {
    "a page": Reply(b"<html>maintenance</html>"),
    "broken gzip": Reply(b"no gzip at all", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_answer_is_no_lost_connection(
    server: ScriptedServer,
    reranker: Reranker,
    at_once: None,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    detections = len(server.asked("/version"))
    server.first(*[UNREADABLE[name]] * 3)
    with caplog.at_level("WARNING"):
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert {"failed (unreadable answer)" in message for message in caplog.messages} == {True}
    server.always(UNREADABLE[name])
    message = failure(reranker, ServerUnavailableError)
    assert f"{server.url}/classify answered with " in message
    assert "no connection" not in message
    assert len(server.asked("/version")) == detections


# Wrong answers


def with_results(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Request], Reply]:
    """Answer rightly, but for what `change` does to the list of results."""

    def answer(request: Request) -> Reply:
        reply = classify(request)
        changed = change(reply.body["data"])
        return reply if changed is None else Reply(changed)

    return answer


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), None, "0.9", [0.9], {}, True, 10**400]
)
def test_only_numbers_are_scores(
    server: ScriptedServer, reranker: Reranker, asked: Asked, value: Any
) -> None:
    asked()
    server.always(with_results(lambda data: data[3].update(probs=[value])))
    assert "not a finite number" in failure(reranker, AnswerError)
    assert asked() == 1


WRONG: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "no index": lambda data: data[2].pop("index") and None,
    "an index twice": lambda data: data[2].update(index=1),
    "an index out of range": lambda data: data[2].update(index=7),
    "a negative index": lambda data: data[2].update(index=-1),
    "an index in a string": lambda data: data[2].update(index="2"),
    "an index with a point": lambda data: data[2].update(index=2.0),
    "an index that is a bool": lambda data: data[1].update(index=True),
    "too few": lambda data: data.pop() and None,
    "too many": lambda data: data.append(data[0] | {"index": 7}),
    "none": lambda data: data.clear(),
    "null for a result": lambda data: data.__setitem__(2, None),  # type: ignore[call-overload]
    "no list": lambda data: {"data": {"0": data}},
    "no object": lambda data: data,
    "a number": lambda data: 7,
    "no scores": lambda data: data[2].pop("probs") and None,
}


@pytest.mark.parametrize("name", WRONG)
def test_documents_are_neither_lost_nor_swapped(
    server: ScriptedServer, reranker: Reranker, asked: Asked, name: str
) -> None:
    asked()
    server.always(with_results(WRONG[name]))
    failure(reranker, AnswerError)
    assert asked() == 1


@pytest.mark.parametrize("value", [1.5, -0.2, 3.4e38])
def test_a_score_that_is_no_probability_is_refused(
    server: ScriptedServer, reranker: Reranker, value: float
) -> None:
    server.always(with_results(lambda data: data[3].update(probs=[value])))
    message = failure(reranker, AnswerError)
    assert f"document 3 the score {value!r}" in message


def test_a_last_digit_above_1_is_rounding(server: ScriptedServer, reranker: Reranker) -> None:
    server.always(with_results(lambda data: data[3].update(probs=[1.0000001])))
    assert reranker.score(QUERY, DOCUMENTS)[3] == 1.0


def test_results_in_any_order_find_their_documents(
    server: ScriptedServer, reranker: Reranker
) -> None:
    server.always(with_results(lambda data: data.reverse()))
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT


def test_a_huge_answer_is_not_read_to_its_end(server: ScriptedServer, reranker: Reranker) -> None:
    sent = 0

    def megabytes() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b" " * 2**20

    server.always(Reply(megabytes()))
    tracemalloc.start()
    try:
        assert "more than 64 MiB" in failure(reranker, ServerError)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent < 90
    assert peak < 100 * 2**20
    server.always(classify)
    assert reranker.score(QUERY, DOCUMENTS) == RIGHT


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    server: ScriptedServer, reranker: Reranker, asked: Asked, status: int
) -> None:
    asked()
    with ScriptedServer() as other:
        server.always(Reply(b"", status, {"Location": f"{other.url}/classify"}))
        message = failure(reranker, ServerError)
        assert other.connections == 0
    assert f"redirects to '{other.url}/classify'" in message
    assert asked() == 1


# Refusals


MESSAGE = "the model `x` is not served here"
SHAPES: dict[str, Any] = {
    "OpenAI": {"error": {"message": MESSAGE, "type": "BadRequestError", "code": 400}},
    "error": {"error": MESSAGE},
    "message": {"message": MESSAGE},
    "detail": {"detail": MESSAGE},
    "FastAPI": {"detail": [{"loc": ["body", "query"], "msg": MESSAGE, "type": "missing"}]},
    "SGLang": {"object": "error", "message": MESSAGE, "type": "BadRequestError", "code": 400},
    "DashScope": {"code": "InvalidParameter", "message": MESSAGE, "request_id": "a-1"},
    "errors": {"errors": [{"message": MESSAGE}]},
    "errors as text": {"errors": [MESSAGE]},
    "TEI": {"error": MESSAGE, "error_type": "Validation"},
    "text": MESSAGE.encode(),
    "JSON text": MESSAGE,
}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 422])
def test_a_refusal_is_final_and_shows_the_servers_message(
    server: ScriptedServer, reranker: Reranker, asked: Asked, status: int
) -> None:
    asked()
    for shape in SHAPES.values():
        server.always(Reply(shape, status))
        message = failure(reranker, ServerError)
        assert f"{server.url}/classify answered {status}: {MESSAGE}" in message
        assert ("api_key=" in message) == (status in (401, 403))
        assert asked() == 1
    server.always(Reply(SHAPES["FastAPI"], status))
    assert "body.query" in failure(reranker, ServerError)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_an_exceeded_quota_is_no_long_request(
    server: ScriptedServer, reranker: Reranker, asked: Asked, status: int
) -> None:
    asked()
    server.always(Reply({"message": "You have exceeded your quota"}, status))
    failure(reranker, ServerError)
    assert asked() == 1
