"""The doctor on servers that cannot be used at all, and on arguments that it cannot use."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from qwen3_reranker import InputError
from qwen3_reranker.doctor import adiagnose, diagnose, diagnosis

from support.doctor_servers import (
    RIGHT,
    examined,
    judge,
    listed,
    problems,
    rerank,
    status,
    vllm,
)
from support.scripted_server import Paths, Reply, ScriptedServer


def test_no_server_listens() -> None:
    with ScriptedServer() as server:
        url = server.url
    report = diagnose(url)
    assert problems(report) == {"unreachable"}


def test_a_server_that_fails_in_the_middle() -> None:
    paths = {**vllm(), ("POST", "/classify"): lambda _: Reply({"error": "busy"}, 503)}
    report = examined(paths)
    assert problems(report) == {"unreachable"}, report


DROPPED = Reply(status=None)
METADATA = (
    *("/v1/models", "/models", "/version", "/model_info", "/get_model_info", "/info", "/props"),
    *("/v1/cluster/version", "/openapi.json", "/v1/openapi.json", "/server_info"),
)


def behind_a_gateway(paths: Paths) -> Paths:
    """Return what a gateway answers that drops every path but those that score."""
    posts = {key: handler for key, handler in paths.items() if key[0] == "POST"}
    return {**posts, **{("GET", path): lambda _: DROPPED for path in METADATA}}


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/v1/rerank", {}),
        ("", {"dialect": "rerank"}),
        ("", {"dialect": "rerank", "template": "server"}),
        ("/v1/rerank", {"dialect": "rerank", "template": "server"}),
    ],
)
def test_a_gateway_that_drops_every_path_but_one(path: str, options: dict[str, Any]) -> None:
    with ScriptedServer(behind_a_gateway(rerank(lambda q, d: judge(RIGHT(q, d))))) as server:
        report = diagnose(server.url + path, **options)
    assert report.healthy, report
    assert status(report, "kind") == "unknown"
    assert status(report, "endpoint") == "ok"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("", {"dialect": "rerank"}),
        ("/v1/rerank", {}),
        ("/v1/rerank", {"dialect": "rerank", "template": "server"}),
    ],
)
def test_no_server_listens_where_an_endpoint_is_chosen(path: str, options: dict[str, Any]) -> None:
    with ScriptedServer() as server:
        pass  # nothing listens there any more
    assert problems(diagnose(server.url + path, **options)) == {"unreachable"}


def test_the_key_of_the_given_dialect_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "the-key")
    with ScriptedServer(vllm()) as server:
        diagnose(server.url, dialect="vllm-classify")
    [first, *_] = server.asked("/v1/models")
    assert first.headers["authorization"] == "Bearer the-key"


@pytest.mark.parametrize("dialect", ["auto", "vllm-score"])
def test_metadata_is_not_read_again_for_each_dialect_that_is_tried(dialect: str) -> None:
    """Each path may hang, and then costs seconds each time."""
    with ScriptedServer({("GET", "/v1/models"): listed("somebody")}) as server:
        assert problems(diagnose(server.url, dialect=dialect)) == {"nothing-scores"}
    # To show the kind, and to detect the server as a reranker does.
    assert len(server.asked("/v1/models")) == 2


def test_reading_a_tokenizer_does_not_block_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def load(name: str) -> str:
        threads.append(threading.current_thread())
        raise InputError("no such tokenizer")

    monkeypatch.setattr(diagnosis, "load_tokenizer", load)

    async def main() -> None:
        with pytest.raises(InputError, match="no such tokenizer"):
            await adiagnose("http://127.0.0.1:9", tokenizer="a/b")

    asyncio.run(main())
    assert threads != [threading.main_thread()]


@pytest.mark.parametrize("code", [401, 403])
def test_a_wrong_key(code: int) -> None:
    refused = Reply({"error": "Unauthorized, not with the-secret-key"}, code)
    paths = {("POST", p): lambda _: refused for p in ("/classify", "/v1/score", "/v1/rerank")}
    report = examined({**paths, ("GET", "/v1/models"): listed()}, api_key="the-secret-key")
    assert problems(report) == {"key-refused"}, report
    assert "the-secret-key" not in str(report)


@pytest.mark.parametrize("dialect", ["auto", "vllm-score"])
@pytest.mark.parametrize("template", ["auto", "server"])
def test_no_endpoint_scores(dialect: str, template: Any) -> None:
    report = examined(
        {("GET", "/v1/models"): listed("somebody")}, dialect=dialect, template=template
    )
    assert problems(report) == {"nothing-scores"}, report


def test_an_answer_that_is_no_score() -> None:
    report = examined({**vllm(), ("POST", "/classify"): lambda _: Reply({"data": [{}]})})
    assert not report.healthy or status(report, "endpoint") == "ok", report


@pytest.mark.parametrize("target", ["localhost:8000", "ftp://somewhere", "http://"])
def test_no_url(target: str) -> None:
    report = diagnose(target)
    assert problems(report) == {"bad-address"}, report


def test_a_password_is_not_shown() -> None:
    with ScriptedServer(vllm()) as server:
        report = diagnose(server.url.replace("//", "//someone:the-password@"))
    assert "the-password" not in str(report.as_dict())


@pytest.mark.parametrize("options", [{"dialect": "nope"}, {"template": "nobody"}])
def test_arguments_that_cannot_be_used(options: Any) -> None:
    with pytest.raises(InputError):
        diagnose("http://localhost:1", **options)


@pytest.mark.parametrize(
    ("key", "refusal"),
    [
        (None, Reply(b"Internal Server Error", 500)),
        (
            "sk-wrong",
            Reply({"error": {"message": "No connected db.", "type": "no_db_connection"}}, 400),
        ),
    ],
)
def test_a_litellm_without_a_database_refuses_keys_in_its_own_way(
    key: str | None, refusal: Reply
) -> None:
    """As LiteLLM 1.106.2 answers everything but /health/liveliness and its documentation."""
    paths = {
        ("GET", "/health/liveliness"): lambda _: Reply(b'"I\'m alive!"'),
        ("GET", "/openapi.json"): lambda _: Reply({"info": {"title": "LiteLLM API"}}),
    }
    with ScriptedServer(paths) as server:
        for path in ("/v1/rerank", "/rerank", "/v1/completions"):
            server.always(refusal, path)
        server.script["GET", "/v1/models"] = lambda _: refusal
        report = diagnose(server.url, api_key=key)
    assert problems(report) == {"key-refused"}, report
