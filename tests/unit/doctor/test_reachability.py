"""The doctor on servers that cannot be used at all, and on arguments that it cannot use."""

from __future__ import annotations

from typing import Any

import pytest

from qwen3_reranker import InputError
from qwen3_reranker.doctor import diagnose

from support.doctor_servers import (
    examined,
    listed,
    problems,
    status,
    vllm,
)
from support.scripted_server import Reply, ScriptedServer


def test_no_server_listens() -> None:
    with ScriptedServer() as server:
        url = server.url
    report = diagnose(url)
    assert problems(report) == {"unreachable"}


def test_a_server_that_fails_in_the_middle() -> None:
    paths = {**vllm(), ("POST", "/classify"): lambda _: Reply({"error": "busy"}, 503)}
    report = examined(paths)
    assert problems(report) == {"unreachable"}, report


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
