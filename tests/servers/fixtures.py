"""
The servers as fixtures: each starts when a test first asks for it, and lives to the run's end.

All of them at once take about 13 GB; the CPU they leave alone between requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwen3_reranker.checkpoint import DEMO_MODEL
from qwen3_reranker.deploy import convert

from servers.litellm_servers import LITELLM, litellm_server
from servers.processes import Server
from servers.sglang_servers import PYTHON, RERANK_TEMPLATE, sglang_server
from servers.vllm_servers import SCORE_TEMPLATE, vllm_server

# What the server with a key asks for, and what it calls its model.
KEY = "the-key-of-the-tests"
SERVED = "Qwen/Qwen3-Reranker-0.6B"

Start = Callable[[Server], Server]


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Starts a server that lives until the test run ends."""
    with ExitStack() as running:

        def start(server: Server) -> Server:
            running.enter_context(server)
            # Left before all `with` are: they end side by side, and each is then waited for.
            servers.append(server)
            return server

        servers: list[Server] = []
        yield start
        for server in servers:
            server.let_go()


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the servers' logs."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def vllm_original(start: Start, logs: Path) -> Server:
    """vLLM, the causal checkpoint as a classifier, no template."""
    return start(vllm_server(DEMO_MODEL, logs / "vllm_original.log", original=True))


@pytest.fixture(scope="session")
def vllm_template(start: Start, logs: Path) -> Server:
    """The same, and the server writes the prompt."""
    log = logs / "vllm_template.log"
    return start(vllm_server(DEMO_MODEL, log, original=True, template=SCORE_TEMPLATE))


@pytest.fixture(scope="session")
def vllm_one_label(start: Start, logs: Path) -> Server:
    """vLLM, the checkpoint converted to one label (yes - no)."""
    model = convert("demo", logs / "one_label", labels=1, engine="vllm").folder
    return start(vllm_server(model, logs / "vllm_one_label.log"))


@pytest.fixture(scope="session")
def vllm_generate(start: Start, logs: Path) -> Server:
    """vLLM, the causal checkpoint writing text: /v1/completions."""
    return start(vllm_server(DEMO_MODEL, logs / "vllm_generate.log", generate=True))


@pytest.fixture(scope="session")
def vllm_key(start: Start, logs: Path) -> Server:
    """As `vllm_original`, with an API key, and named as the model on the hub."""
    log = logs / "vllm_key.log"
    return start(vllm_server(DEMO_MODEL, log, original=True, key=KEY, served=SERVED))


@pytest.fixture(scope="session")
def sglang_causal(start: Start, logs: Path) -> Server:
    """SGLang, the causal checkpoint with the template that /v1/rerank needs."""
    _check(PYTHON)
    return start(sglang_server(DEMO_MODEL, logs / "sglang_causal.log", template=RERANK_TEMPLATE))


@pytest.fixture(scope="session")
def sglang_two_label(start: Start, logs: Path) -> Server:
    """SGLang, the checkpoint converted to two labels ([no, yes])."""
    _check(PYTHON)
    model = convert("demo", logs / "two_label", labels=2, engine="sglang").folder
    return start(sglang_server(model, logs / "sglang_two_label.log"))


@pytest.fixture(scope="session")
def litellm(start: Start, logs: Path, vllm_template: Server) -> Server:
    """LiteLLM's proxy in front of `vllm_template`."""
    _check(LITELLM)
    return start(litellm_server(vllm_template, logs / "litellm.log"))


def _check(program: Path) -> None:
    if not program.is_file():
        pytest.fail(f"{program} is missing: `make setup` makes it")
