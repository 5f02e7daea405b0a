"""Which requests need a key, and where keys come from."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from qwen3_reranker import InputError
from qwen3_reranker.gateway import GatewayConfig
from qwen3_reranker.gateway.keys import VARIABLE, read_keys

from support.gateway import RelevanceScorer, gateway
from support.scripted_server import DOCUMENTS, QUERY

BODY = {"query": QUERY, "documents": DOCUMENTS}
KEYS = GatewayConfig(keys=("first-key", "schlüssel"))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def status(header: str | None, config: GatewayConfig, path: str = "/rerank") -> int:
    headers = [] if header is None else [(b"Authorization", header.encode())]
    async with gateway(RelevanceScorer(), config) as client:
        if path == "/rerank":
            return (await client.post(path, json=BODY, headers=headers)).status_code
        return (await client.get(path, headers=headers)).status_code


@pytest.mark.parametrize(
    "header",
    [
        "Bearer first-key",
        "bearer first-key",
        "Bearer  first-key ",
        "Bearer schlüssel",
        basic("", "first-key"),
        basic("anyone", "schlüssel"),
    ],
)
async def test_each_key_is_accepted(header: str) -> None:
    assert await status(header, KEYS) == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer first",
        "Bearer first-key2",
        "Bearer First-Key",
        "first-key",
        "Token first-key",
        "Basic first-key",
        "Basic !",
        basic("first-key", ""),
        basic("x", "other"),
    ],
)
@pytest.mark.parametrize("path", ["/rerank", "/v1/models", "/info", "/nothing"])
async def test_everything_else_is_refused(header: str | None, path: str) -> None:
    assert await status(header, KEYS, path) == 401


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer whatever", "Basic !"])
async def test_without_keys_every_client_is_accepted(header: str | None) -> None:
    assert await status(header, GatewayConfig()) == 200


@pytest.mark.parametrize(
    "path", ["/health", "/health/", "/ready", "/docs", "/openapi.json", "/metrics", "/version"]
)
async def test_what_orchestrators_and_people_read_needs_no_key(path: str) -> None:
    async with gateway(RelevanceScorer(), KEYS) as client:
        # "/ready" says 503 until the engine has started.
        assert (await client.get(path)).status_code in ((200, 503) if path == "/ready" else (200,))


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/score", "/v1/models"])
async def test_a_refusal_is_read_by_the_clients_of_the_path(path: str) -> None:
    scorer = RelevanceScorer()
    async with gateway(scorer, KEYS) as client:
        response = await client.post(path, content=b"not read")
    body = response.json()
    message = body["message"] if path == "/v2/rerank" else body["error"]["message"]
    assert message == "the API key is missing or wrong: send Authorization: Bearer KEY"
    assert response.headers.get_list("www-authenticate") == [
        "Bearer",
        'Basic realm="qwen3-reranker"',
    ]
    assert scorer.calls == []


# Where keys come from


def test_keys_come_from_the_environment_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_keys() == ()
    file = tmp_path / "keys"
    file.write_bytes("\ufeff# of the team\nfirst\n\n  second \r\n#third\nfirst\n".encode())
    assert [key.reveal() for key in read_keys(file)] == ["first", "second"]
    monkeypatch.setenv(VARIABLE, " zero ")
    assert [key.reveal() for key in read_keys(file)] == ["zero", "first", "second"]
    assert "second" not in repr(read_keys(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# none\n\n", "has no key: write one per line"),
        (b"\xff", "is not UTF-8 text"),
        (None, "No such file or directory: give a file"),
    ],
)
def test_a_file_without_keys_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    monkeypatch.setenv(VARIABLE, "zero")
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=f"keys.* {message}"):
        read_keys(file)
