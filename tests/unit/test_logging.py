"""What is logged under "qwen3_reranker", at which level, and what is never in it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import Reranker, RerankerError, RerankerWarning
from qwen3_reranker.errors import EngineError
from qwen3_reranker.remote import failover

from support.helpers import FaultyScorer, either
from support.log_records import Records, recorded
from support.scripted_server import DOCUMENTS, QUERY, Reply, Request, ScriptedServer

KEY = "sk-5f0e8c1d2b7a"
CONFIDENTIAL = "confidential"
TEXTS = [f"{CONFIDENTIAL} text {n}" for n in range(4)]
TOO_LARGE = Reply({"error": "batch size 9 > maximum allowed batch size 8"}, 413)


@pytest.fixture(scope="module")
def at_once() -> Iterator[None]:
    """Do not wait between attempts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failover, "_backoff", lambda _: 0.0)
        patch.setattr(failover, "_jitter", lambda _: 0.0)
        yield


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def test_a_detection_is_logged_once_and_a_normal_call_at_debug_only(
    server: ScriptedServer, log: Records
) -> None:
    with Reranker(base_url=server.url, cache={}) as reranker:
        reranker.warm_up()
        [message] = log.loud
        assert message.startswith(f"detected {server.url} in ")
        assert "vLLM 0.32.0, dialect vllm-classify" in message
        log.records.clear()
        for _ in range(2):
            reranker.rerank(QUERY, DOCUMENTS)
        assert log.loud == []
        first, second = log.messages(logging.DEBUG, module=".tally")
    assert "scored: Usage(queries=1, documents=7, scored=7, " in first
    assert "scored: Usage(queries=1, documents=7, cached=7, " in second


def test_truncation_is_counted_in_the_log(server: ScriptedServer, log: Records) -> None:
    with Reranker(base_url=server.url, tokenizer="demo", max_length=100) as reranker:
        reranker.rerank(QUERY, ["word " * 100, "word"])
    [message] = log.messages(logging.DEBUG, module=".tally")
    assert "truncated=1" in message


@pytest.mark.usefixtures("at_once")
def test_retries_and_the_recovery_are_logged(server: ScriptedServer, log: Records) -> None:
    with Reranker(base_url=server.url) as reranker:
        reranker.warm_up()
        log.records.clear()
        server.first(Reply({"detail": "one"}, 503), Reply({"detail": "two"}, 503))
        reranker.rerank(QUERY, DOCUMENTS)
    failed = f"{server.url} failed (status 503) and backs off for 1.0 s"
    assert log.messages(logging.WARNING) == [failed, failed]
    assert log.messages(logging.INFO) == [
        f"retrying on {server.url} (attempt 2)",
        f"retrying on {server.url} (attempt 3)",
        f"{server.url} answers again",
    ]
    # A server's own words may repeat a text that it was sent.
    reasons = log.messages(logging.DEBUG, module=".remote.endpoint")
    assert [reason.rpartition(": ")[2] for reason in reasons] == ["one", "two"]


def test_a_failover_is_logged(server: ScriptedServer, other: ScriptedServer, log: Records) -> None:
    with Reranker(base_url=[server.url, other.url]) as reranker:
        reranker.warm_up()
        log.records.clear()
        server.__exit__()
        reranker.rerank(QUERY, DOCUMENTS)
    assert log.loud[:2] == [
        f"{server.url} failed (no connection) and backs off for 1.0 s",
        f"retrying on {other.url} (attempt 2)",
    ]
    assert log.loud[2].startswith(f"detected {other.url}")
    assert len(log.loud) == 3


def test_a_split_is_logged(server: ScriptedServer, log: Records) -> None:
    with Reranker(base_url=server.url) as reranker:
        reranker.warm_up()
        log.records.clear()
        server.first(TOO_LARGE)
        reranker.rerank(QUERY, DOCUMENTS)
    assert log.loud == ["a request with 7 documents is too large and is halved"]


def test_a_server_that_has_changed_is_logged(server: ScriptedServer, log: Records) -> None:
    with Reranker(base_url=server.url) as reranker:
        reranker.warm_up()
        log.records.clear()
        server.first(Reply({"detail": "Not Found"}, 404))
        with pytest.raises(RerankerError):
            reranker.rerank(QUERY, DOCUMENTS)
    assert log.loud[0] == f"{server.url} may have changed, and is detected again"
    assert log.loud[1].startswith(f"detected {server.url}")


def test_a_failure_that_is_survived_is_a_warning(log: Records) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError(CONFIDENTIAL)), on_error="keep_order")
    with reranker, pytest.warns(RerankerWarning):
        reranker.rerank("query", ["a", "b"])
    assert log.loud == ["scoring failed (EngineError), so 2 documents keep their order"]


@pytest.mark.parametrize("call", [either("score"), either("ascore")])
async def test_no_order_is_kept_where_scores_are_asked_for(log: Records, call: Any) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("died")), on_error="keep_order")
    with pytest.raises(EngineError):
        await call(reranker, "query", ["a", "b"])
    assert log.records == []


def test_a_failure_that_is_raised_is_not_logged_as_well(log: Records) -> None:
    reranker = Reranker(scorer=FaultyScorer(EngineError("died")))
    with reranker, pytest.raises(EngineError):
        reranker.rerank("query", ["a", "b"])
    assert log.records == []


# What is never logged


def repeat(status: int, *, text: bool) -> Callable[[Request], Reply]:
    """Return a handler that repeats everything that it was sent, as careless servers do."""

    def answer(request: Request) -> Reply:
        words = f"{json.dumps(request.body)} {request.headers.get('authorization')}"
        return Reply(words.encode() if text else {"error": {"message": words}}, status)

    return answer


replies = st.builds(
    repeat, st.sampled_from([200, 400, 401, 404, 413, 429, 500, 503]), text=st.booleans()
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    first=st.lists(replies, max_size=4),
    second=st.lists(replies, max_size=4),
    options=st.fixed_dictionaries(
        {
            "on_error": st.sampled_from(["raise", "keep_order"]),
            "max_retries": st.integers(0, 2),
            "tokenizer": st.sampled_from([None, "demo"]),
            "api_key": st.just(KEY),
        }
    ),
    warm=st.booleans(),
)
@pytest.mark.usefixtures("at_once")
@pytest.mark.filterwarnings("ignore::qwen3_reranker.RerankerWarning")
def test_no_text_is_above_debug_and_a_key_is_nowhere(
    first: list[Any], second: list[Any], options: dict[str, Any], *, warm: bool
) -> None:
    with recorded() as log, ScriptedServer() as one, ScriptedServer() as two:
        urls = [one.url, two.url] if second else one.url
        with Reranker(base_url=urls, timeout=20, **options) as reranker:
            if warm:
                reranker.warm_up()
            one.first(*first)
            two.first(*second)
            for _ in range(2):
                with suppress(RerankerError):
                    reranker.rerank(f"{CONFIDENTIAL} query", TEXTS)
    everything = [json.dumps(vars(record), default=repr) for record in log.records]
    assert not [text for text in everything if KEY in text]
    loud = [r for r in log.records if r.levelno > logging.DEBUG]
    assert not [r for r in loud if CONFIDENTIAL in json.dumps(vars(r), default=repr)]
    assert log.messages(logging.DEBUG, logging.INFO)


# A program that does not configure logging


def test_nothing_is_printed_unless_logging_is_configured() -> None:
    program = """
import logging
import qwen3_reranker
logging.getLogger("qwen3_reranker.remote").warning("unseen")
logging.basicConfig()
logging.getLogger("qwen3_reranker.remote").warning("seen")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "WARNING:qwen3_reranker.remote:seen\n")


def test_a_handler_that_prints_nothing_does_not_hide_the_notice_of_a_slow_start() -> None:
    program = """
import qwen3_reranker
from qwen3_reranker.embedded.progress import announce
announce("starting")
"""
    environment = {"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr == "starting\n"
