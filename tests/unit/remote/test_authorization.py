"""Which API key a server is sent."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from qwen3_reranker import InputError, Reranker, ServerError

from support.scripted_server import (
    DOCUMENTS,
    QUERY,
    RIGHT,
    VLLM,
    Reply,
    ScriptedServer,
)
from support.secrets import KEY, OTHER, assert_unseen, sent

# Which key is sent


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("place", ["headers", "http_client"])
def test_a_users_authorization_is_not_replaced_by_the_environments(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    headers = {name: f"Basic {OTHER}"}
    given: dict[str, Any] = {"headers": headers}
    if place == "http_client":
        given = {"http_client": httpx.AsyncClient(headers=headers)}
    with Reranker(base_url=server.url, **given) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert sent(server) == {f"Basic {OTHER}"}


def test_a_clients_own_credentials_are_not_replaced_by_the_environments(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    client = httpx.AsyncClient(auth=("me", OTHER))
    with Reranker(base_url=server.url, http_client=client) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    (found,) = sent(server)
    assert found and found.startswith("Basic ")


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_key_and_an_authorization_header_exclude_each_other(name: str) -> None:
    given: dict[str, Any] = {"api_key": KEY, "headers": {name: f"Basic {OTHER}"}}
    with pytest.raises(InputError, match="give one of them") as caught:
        Reranker(base_url="http://h", **given)
    assert_unseen(caught.value)


def behind_a_proxy(server: ScriptedServer, url: str, reply: Reply | None = None) -> dict[str, Any]:
    """Let the server stand for any host: as a proxy that answers itself."""
    server.script = {
        (method, url + path): (answer if reply is None else lambda _: reply)
        for (method, path), answer in VLLM.items()
    }
    return {"base_url": url, "proxy": server.url}


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("http://vllm.example.com", "VLLM_API_KEY"),
        ("http://8.8.8.8:8000", "VLLM_API_KEY"),
        ("http://api.jina.ai", "JINA_API_KEY"),
    ],
)
def test_a_key_of_the_environment_is_withheld(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, url: str, variable: str
) -> None:
    monkeypatch.setenv(variable, KEY)
    refusal = Reply({"error": "Unauthorized"}, 401)
    given = behind_a_proxy(server, url, refusal)
    server.script["GET", url + "/version"] = VLLM["GET", "/version"]
    with (
        Reranker(**given, dialect="vllm-classify" if "jina" not in url else "jina") as reranker,
        pytest.raises(ServerError, match=f"401: Unauthorized.*{variable} is set, but it is sent"),
    ):
        reranker.score(QUERY, DOCUMENTS)
    assert sent(server) == {None}


def test_a_withheld_key_is_named_beside_litellms_500(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_API_KEY", KEY)
    given = behind_a_proxy(server, "http://llm.example.com", Reply({"error": "No key"}, 500))
    with (
        Reranker(**given, dialect="litellm") as reranker,
        pytest.raises(ServerError, match="500: No key.*LITELLM_API_KEY is set, but it is sent"),
    ):
        reranker.score(QUERY, DOCUMENTS)
    assert sent(server) == {None}


def test_a_key_that_is_given_goes_anywhere(server: ScriptedServer) -> None:
    with Reranker(**behind_a_proxy(server, "http://vllm.example.com"), api_key=KEY) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert sent(server) == {f"Bearer {KEY}"}


def test_a_key_of_the_environment_goes_to_a_private_host(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    url = "http://reranker.ml.svc.cluster.local"
    with Reranker(**behind_a_proxy(server, url)) as reranker:
        assert reranker.score(QUERY, DOCUMENTS) == RIGHT
    assert f"Bearer {KEY}" in sent(server)


def test_the_variable_of_a_key_that_no_header_can_carry_is_named(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", f"{KEY}\n")
    with Reranker(base_url=server.url) as reranker, pytest.raises(InputError) as caught:
        reranker.score(QUERY, DOCUMENTS)
    assert "'Authorization' cannot be sent" in str(caught.value)
    assert "in VLLM_API_KEY" in str(caught.value)
    assert_unseen(caught.value)
