"""The command `gateway --playground`: the page beside the APIs, in a browser."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator

import httpx
import pytest

from qwen3_reranker.gateway.keys import VARIABLE

from support.browser import CHROMIUM, chromium
from support.command_line import Call
from support.gateway import until
from support.gateway_command import Started, started
from support.scripted_server import HANG, ScriptedServer

pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
KEY = "the-clients-key"
INSTRUCTION = "Given a bug report, retrieve reports of the same bug"


@pytest.fixture
def upstream() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@needs_browser
def test_the_page_ranks_and_its_open_tab_does_not_delay_the_end(upstream: ScriptedServer) -> None:
    options = ("--base-url", upstream.url, "--playground", "--access-log", "json")
    with started(*options, env={VARIABLE: KEY}) as gateway, chromium() as browser:
        assert httpx.get(f"{gateway.url}/playground/").status_code == 401
        assert httpx.get(f"{gateway.url}/playground/config").status_code == 401
        page = browser.new_page(http_credentials={"username": "anyone", "password": KEY})
        page.goto(f"{gateway.url}/playground")
        page.get_by_label("Query").fill("copy a folder")
        page.get_by_label("Documents", exact=True).fill("copy a file\n\ncopy a folder")
        page.get_by_role("button", name="Rank", exact=True).click()
        page.locator(".hit").first.wait_for()
        assert "copy a folder" in page.locator(".hit").first.inner_text()
        metrics = httpx.get(f"{gateway.url}/metrics").text
        assert 'qwen3_reranker_requests_total{api="other",model="",status="200"}' in metrics
        assert 'api="rerank"' not in metrics and "playground" not in metrics
        assert gateway.end() == 0
    assert not any(word in "".join(gateway.lines) for word in ("Traceback", "Error", KEY))
    # As for all paths that do not score, only what failed is logged.
    logged = [json.loads(line) for line in gateway.logged()]
    assert {(entry["status"], entry["api"]) for entry in logged} == {(401, None)}


@needs_browser
def test_the_page_offers_the_aliases_within_the_limits_of_the_gateway(
    upstream: ScriptedServer,
) -> None:
    limits = ("--max-documents", "2", "--max-body", "9000")
    options = ("--base-url", upstream.url, "--playground", "--alias", f"tickets={INSTRUCTION}")
    with started(*options, *limits) as gateway, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{gateway.url}/playground")
        page.get_by_label("Query").fill("copy a folder")
        documents = page.get_by_label("Documents", exact=True)
        documents.fill("copy a file\n\ncopy a folder\n\nmove a file")
        page.get_by_label("Model", exact=True).click()
        page.get_by_role("option", name="tickets").click()
        rank = page.get_by_role("button", name="Rank", exact=True)
        rank.click()
        message = page.get_by_role("alert").filter(has_text="at most 2 are accepted")
        message.wait_for()
        documents.fill("copy a file\n\ncopy a folder")
        rank.click()
        page.locator(".hit").first.wait_for()
        assert page.locator(".instruction").inner_text() == f"Instruction: {INSTRUCTION}"
        upload = f"{gateway.url}/playground/gradio_api/upload"
        for content, status in ((b"x" * 9001, 413), (iter([b"x"]), 411)):
            assert httpx.post(upload, content=content).status_code == status
        assert httpx.get(f"{gateway.url}/favicon.ico").status_code == 204


@needs_browser
def test_a_run_of_the_page_does_not_delay_the_end(upstream: ScriptedServer) -> None:
    with started("--base-url", upstream.url, "--playground") as gateway, chromium() as browser:
        until(lambda: httpx.get(f"{gateway.url}/ready").status_code == 200)
        upstream.always(HANG)
        before = len(upstream.asked())
        page = browser.new_page()
        page.goto(f"{gateway.url}/playground")
        page.get_by_label("Query").fill("copy a folder")
        page.get_by_label("Documents", exact=True).fill("copy a file\n\ncopy a folder")
        page.get_by_role("button", name="Rank", exact=True).click()
        until(lambda: len(upstream.asked()) > before)
        assert gateway.end() == 0
    assert not gateway.says("Traceback")


def test_on_all_networks_its_urls_can_be_opened(upstream: ScriptedServer) -> None:
    gateway = Started(
        *("--base-url", upstream.url, "--playground", "--host", "0.0.0.0", "--allow-no-key")
    )
    try:
        until(lambda: gateway.says("from other machines") or gateway.process.poll() is not None)
        port = f"{gateway.port}/playground"
        assert gateway.says(f"the playground is at http://localhost:{port} on this machine")
        assert gateway.says(f"from other machines it is at http://{socket.gethostname()}:{port}")
        assert not gateway.says(f"0.0.0.0:{port}")
    finally:
        gateway.process.kill()
        gateway.process.wait()


def test_without_gradio_it_says_what_to_install(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("page", "server"):
        monkeypatch.delitem(sys.modules, f"qwen3_reranker.playground.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = call("gateway", "demo", "--playground", "--port", "0")
    assert code == 3
    assert "the playground needs gradio: pip install 'qwen3-reranker[playground]'" in err
