"""The command `gateway`: what it refuses to start with, and how it serves and ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from qwen3_reranker.addresses import listen
from qwen3_reranker.gateway.keys import VARIABLE

from support.command_line import Call
from support.gateway import until
from support.gateway_command import Started, started
from support.scripted_server import DOCUMENTS, HANG, QUERY, RIGHT, ScriptedServer, but

BODY = {"query": QUERY, "documents": DOCUMENTS}
BEST_FIRST = sorted(range(len(RIGHT)), key=lambda index: -RIGHT[index])


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("QWEN3_RERANKER_UPSTREAM_API_KEY", raising=False)


# What it refuses


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.com"])
def test_other_machines_need_a_key(call: Call, host: str) -> None:
    code, _, err = call("gateway", "demo", "--host", host)
    assert code == 2
    assert "other machines could use this gateway without an API key" in err
    assert "QWEN3_RERANKER_API_KEY or give --api-key-file; or give --allow-no-key" in err


@pytest.mark.parametrize("by", ["variable", "file", "flag"])
def test_with_a_key_or_the_flag_it_listens_on_any_address(
    call: Call, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"variable": [], "flag": ["--allow-no-key"], "file": ["--api-key-file", "keys"]}
    monkeypatch.chdir(tmp_path)
    Path("keys").write_text("key\n")
    if by == "variable":
        monkeypatch.setenv(VARIABLE, "key")
    with listen("0.0.0.0", 0) as listener:
        port = str(listener.getsockname()[1])
        code, _, err = call("gateway", "demo", "--host", "0.0.0.0", "--port", port, *options[by])
    taken = f"error: --port {port} is used by another program: give another port, or end "
    assert (code, err) == (2, f"{taken}that program\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alias", "faq"], "--alias 'faq': give NAME=INSTRUCTION"),
        (["--alias", "=Find"], "--alias '=Find': give NAME=INSTRUCTION"),
        (["--alias", "a= "], "--alias 'a= ': give NAME=INSTRUCTION"),
        (["--alias", "m=Find", "--served-name", "m"], "the alias 'm' is named like the model"),
        (["--min-score", "2"], "--min-score 2.0: scores are probabilities"),
        (["--token-budget", "0"], "--token-budget 0: give a whole number of at least 1"),
        (["--max-active", "0"], "--max-active 0: give a whole number of at least 1"),
        (["--request-timeout", "-1"], "--request-timeout -1.0: give a number of seconds above 0"),
        (["--passage-tokens", "64"], "--passage-tokens can be used only for passages"),
        (["--config", "none.toml"], "none.toml: No such file or directory"),
        (["--config", "wrong.toml"], "wrong.toml: aliases.faq.min: unknown key"),
        (["--api-key-file", "none"], "none: No such file or directory"),
        (["--host", "no such host", "--allow-no-key"], "--host 'no such host': it is not known"),
        (["--port", "70000"], "--port 70000: give a number from 1 to 65535"),
        (["--upstream-api-key", "k"], "only a server can use --upstream-api-key"),
        (["--base-url", "localhost"], "localhost"),
    ],
)
def test_what_cannot_be_used_is_named(
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text("[aliases.faq]\nmin = 1\n")
    port = [] if "--port" in options else ["--port", "0"]
    model = [] if "--base-url" in options else ["demo"]
    code, _, err = call("gateway", *model, *port, *options)
    assert message in err
    assert code == 2


# How it serves


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.mark.slow
def test_keys_of_clients_and_of_servers_are_not_mixed_up(upstream: ScriptedServer) -> None:
    keys = {VARIABLE: "the-clients-key", "QWEN3_RERANKER_UPSTREAM_API_KEY": "the-servers-key"}
    with started("--base-url", upstream.url, env=keys) as gateway:
        post = f"{gateway.url}/v1/rerank"
        assert httpx.post(post, json=BODY).status_code == 401
        wrong = {"Authorization": "Bearer the-servers-key"}
        assert httpx.post(post, json=BODY, headers=wrong).status_code == 401
        right = {"Authorization": "Bearer the-clients-key"}
        response = httpx.post(post, json=BODY, headers=right, timeout=30)
        assert [hit["index"] for hit in response.json()["results"]] == BEST_FIRST
        assert gateway.end() == 0
    sent = {request.headers.get("authorization") for request in upstream.asked()}
    assert sent == {"Bearer the-servers-key"}
    assert not any(key in line for line in gateway.lines for key in keys.values())


@pytest.mark.slow
def test_the_options_for_selection_apply_to_every_request(upstream: ScriptedServer) -> None:
    twice = BODY | {"documents": [*DOCUMENTS, DOCUMENTS[BEST_FIRST[0]]]}
    with started("--base-url", upstream.url, "--drop-duplicates") as gateway:
        response = httpx.post(f"{gateway.url}/v1/rerank", json=twice, timeout=30)
        assert [hit["index"] for hit in response.json()["results"]] == BEST_FIRST
        assert gateway.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_answer_that_was_accepted(
    upstream: ScriptedServer, number: signal.Signals
) -> None:
    release = threading.Event()
    with started("--base-url", upstream.url, "--max-active", "4") as gateway:
        until(lambda: httpx.get(f"{gateway.url}/ready").status_code == 200)
        held = [but(hold=release)] * 4
        upstream.first(*held)
        before = len(upstream.asked())

        def post(index: int) -> list[int]:
            body = BODY | {"query": f"{QUERY} {index}"}
            response = httpx.post(f"{gateway.url}/v1/rerank", json=body, timeout=30)
            assert response.status_code == 200
            return [hit["index"] for hit in response.json()["results"]]

        with ThreadPoolExecutor(12) as pool:
            answers = [pool.submit(post, index) for index in range(12)]
            until(lambda: len(upstream.asked()) == before + 4)
            metrics = f"{gateway.url}/metrics"
            until(lambda: "qwen3_reranker_requests_queued 8.0" in httpx.get(metrics).text)
            gateway.process.send_signal(number)
            until(lambda: _refuses(gateway))
            assert gateway.process.poll() is None
            release.set()
            assert all(sorted(answer.result()) == list(range(7)) for answer in answers)
        assert gateway.process.wait(30) == 0
    assert not gateway.says("Traceback")


def _refuses(gateway: Started) -> bool:
    try:
        httpx.get(f"{gateway.url}/health")
    except httpx.ConnectError:
        return True
    return False


@pytest.mark.slow
def test_an_access_log_that_nobody_reads_holds_no_request_up(upstream: ScriptedServer) -> None:
    reader, writer = os.pipe()
    with started("--base-url", upstream.url, stdout=writer) as gateway:
        os.close(writer)
        unknown = f"{gateway.url}/{'x' * 200}"
        with httpx.Client(timeout=20) as client:
            for _ in range(400):  # of more than 200 bytes each; a pipe holds 64 KiB
                assert client.get(unknown).status_code == 404
            assert client.post(f"{gateway.url}/v1/rerank", json=BODY).status_code == 200
        assert gateway.end() == 0
    with os.fdopen(reader) as log:
        assert len(log.read()) > 2**15


@pytest.mark.slow
def test_a_server_that_hangs_is_left_for_another_one(upstream: ScriptedServer) -> None:
    with ScriptedServer() as hanging:
        urls = ("--base-url", hanging.url, "--base-url", upstream.url)
        with started(*urls, "--request-timeout", "6") as gateway:
            until(lambda: httpx.get(f"{gateway.url}/ready").status_code == 200)
            before = len(hanging.asked())
            hanging.always(HANG)
            for number in range(4):
                body = BODY | {"query": f"{QUERY} {number}"}
                response = httpx.post(f"{gateway.url}/v1/rerank", json=body, timeout=30)
                assert response.status_code == 200, response.text
            assert 0 < len(hanging.asked()) - before < 4  # it backs off
            gateway.end()


@pytest.mark.slow
def test_a_server_that_is_not_up_yet_is_waited_for() -> None:
    server = ScriptedServer()
    with server:
        pass  # its port is free now
    with started("--base-url", server.url, "--max-retries", "0") as gateway:
        until(lambda: gateway.says("cannot score: no connection"))
        assert httpx.get(f"{gateway.url}/ready").status_code == 503
        assert httpx.get(f"{gateway.url}/health").status_code == 200
        refused = httpx.post(f"{gateway.url}/v1/rerank", json=BODY, timeout=30)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        with server:
            until(lambda: httpx.get(f"{gateway.url}/ready").status_code == 200)
            assert httpx.post(f"{gateway.url}/v1/rerank", json=BODY, timeout=30).is_success
        assert gateway.end() == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_used_ends_the_command(tmp_path: Path) -> None:
    with started(str(tmp_path)) as gateway:
        assert gateway.process.wait(30) == 2
        until(lambda: gateway.says("error: "))
    assert gateway.says(str(tmp_path))
    assert not gateway.says("Traceback")
