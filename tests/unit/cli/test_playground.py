"""The command `playground`: its messages when it starts."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.addresses import listen
from qwen3_reranker.cli.playground import _announce
from qwen3_reranker.playground.events import run
from qwen3_reranker.playground.models import Models

from support.command_line import Call
from support.playground import INPUTS
from support.scripted_server import Reply, ScriptedServer


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(call: Call) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        code, _, err = call("playground", "demo", "--port", port)
    taken = f"error: --port {port} is used by another program: give another port, or end "
    assert (code, err) == (2, f"{taken}that program\n")


@pytest.mark.slow
def test_an_option_of_a_server_needs_a_server(call: Call) -> None:
    code, _, err = call("playground", "demo", "--port", "0", "--max-retries", "1")
    assert code == 2
    assert "only a server can use --max-retries" in err


@pytest.mark.slow
def test_a_device_that_cannot_be_used_is_named(call: Call) -> None:
    code, _, err = call("playground", "demo", "--port", "0", "--devices", "0,1,0")
    assert code == 2
    assert "--devices 0,1,0" in err


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_it_says_only_where_it_is(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _announce(host, 7860)
    shown = f"[{host}]" if ":" in host else host
    assert capsys.readouterr().err == f"the playground is at http://{shown}:7860\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_on_all_networks_it_says_how_to_reach_it_and_who_can(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _announce(host, 7860)
    words = " ".join(capsys.readouterr().err.split())
    assert "http://localhost:7860 on this machine" in words
    assert f"from other machines it is at http://{socket.gethostname()}:7860" in words
    assert "warning: everyone who can reach this machine can use it, without a password" in words
    assert "ssh -L 7860:localhost:7860" in words
    assert host not in words


async def test_a_server_that_is_not_up_yet_is_waited_for() -> None:
    server = ScriptedServer()
    with server:
        pass  # its port is free now
    updates, waited = [], False
    with Reranker(base_url=server.url, max_retries=0) as reranker, ExitStack() as stack:
        async for update in run(INPUTS, Models.of([reranker]), has_result=False, tick=0.05):
            updates.append(update)
            if not waited and "The server is not ready yet, trying again" in update.message:
                waited = True
                stack.enter_context(server)
    assert waited
    assert updates[-1].result is not None


@pytest.mark.parametrize(
    "loading",
    [
        Reply({"error": {"code": 503, "message": "Loading model"}}, 503),  # llama.cpp
        Reply(b"<html>503 Service Temporarily Unavailable</html>", 503),  # a proxy
    ],
)
async def test_a_server_that_loads_its_model_is_waited_for(loading: Reply) -> None:
    waited = False
    with ScriptedServer() as server, Reranker(base_url=server.url, max_retries=0) as reranker:
        script, server.script = server.script, dict.fromkeys(server.script, lambda _: loading)
        async for update in run(INPUTS, Models.of([reranker]), has_result=False, tick=0.05):
            if "The server is not ready yet, trying again" in update.message:
                waited, server.script = True, script
    assert waited
    assert update.result is not None
