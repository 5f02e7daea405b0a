"""
Fixtures of real servers. Each starts when a test first requests it, and stops when others need
memory.

A vLLM or SGLang server takes 1.5 GB, the others less. A test run sorts its tests by the server that
they request (`server_of`), so that few servers run at a time and each starts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwen3_reranker import Reranker
from qwen3_reranker.convert import convert
from qwen3_reranker.embedded.reference import TransformersScorer
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from support.servers.gateway_servers import gateway_server
from support.servers.infinity_servers import INFINITY, infinity_server
from support.servers.litellm_servers import LITELLM, litellm_server
from support.servers.llama_cpp_servers import LLAMA_CPP, llama_cpp_server
from support.servers.processes import MAX_LENGTH, Server
from support.servers.sglang_servers import PYTHON, RERANK_TEMPLATE, launched_sglang, sglang_server
from support.servers.vllm_servers import SCORE_TEMPLATE, launched_vllm, vllm_server

# The names of the fixtures, in the order of a run. Proxies come after the servers behind them.
ORDER = [
    *("llama_cpp", "infinity", "vllm_template", "litellm", "gateway", "vllm_newline_lost"),
    *(
        "vllm_one_label",
        "vllm_original",
        "vllm_key",
        "vllm_generate",
        "sglang_causal",
        "sglang_two_label",
    ),
]
# The proxy and the two servers behind it.
AT_A_TIME = 3

# The API key of the server that requires one, and the name of its model.
KEY = "the-key-of-the-tests"
SERVED = "Qwen/Qwen3-Reranker-0.6B"

Start = Callable[[str, Callable[[], Server]], Server]


def server_of(item: pytest.Item) -> str | None:
    """Return the server that a test requests, the last in `ORDER` of several, or None."""
    asked = set(getattr(item, "fixturenames", ()))
    if callspec := getattr(item, "callspec", None):
        asked.add(callspec.params.get("server"))
    return max(asked.intersection(ORDER), key=ORDER.index, default=None)


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Return a function that returns a running server by name, and starts it if necessary."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def start(name: str, make: Callable[[], Server]) -> Server:
            server = running.pop(name, None)
            if server is None:
                while len(running) >= AT_A_TIME:
                    running.pop(next(iter(running))).stop()
                server = stack.enter_context(make())
            running[name] = server
            return server

        yield start


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the servers' logs."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def recipe() -> Iterator[Reranker]:
    """The model card's recipe in transformers, with the servers' limit."""
    scorer = TransformersScorer("demo", dtype="float32", max_length=MAX_LENGTH)
    with Reranker(scorer=scorer) as reranker:
        yield reranker


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The server whose fixture's name is the parameter."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def vllm_original(start: Start, logs: Path) -> Server:
    """vLLM as `serve --template client` starts it: the causal checkpoint as a classifier."""
    log = logs / "vllm_original.log"
    return start("vllm_original", lambda: launched_vllm("client", log))


@pytest.fixture
def vllm_template(start: Start, logs: Path) -> Server:
    """vLLM as `serve` starts it: the same, and the server writes the prompt."""
    log = logs / "vllm_template.log"
    return start("vllm_template", lambda: launched_vllm("server", log))


@pytest.fixture
def vllm_newline_lost(start: Start, logs: Path) -> Server:
    """As `vllm_template`, but the template's newlines end the file, where Jinja drops one."""

    def make() -> Server:
        written = SCORE_TEMPLATE.read_text("utf-8").rstrip("\n")
        template = logs / "lost.jinja"
        template.write_text(written.removesuffix("{{ '\\n\\n' }}") + "\n\n", "utf-8")
        assert template.read_text("utf-8").endswith("</think>\n\n")
        log = logs / "vllm_newline_lost.log"
        return vllm_server(DEMO_MODEL, log, original=True, template=template)

    return start("vllm_newline_lost", make)


@pytest.fixture
def vllm_one_label(start: Start, logs: Path) -> Server:
    """vLLM, the checkpoint converted to one label (yes - no)."""

    def make() -> Server:
        model = convert("demo", logs / "one_label", labels=1, engine="vllm").folder
        return vllm_server(model, logs / "vllm_one_label.log")

    return start("vllm_one_label", make)


@pytest.fixture
def vllm_generate(start: Start, logs: Path) -> Server:
    """vLLM, the causal checkpoint writing text: /v1/completions."""
    log = logs / "vllm_generate.log"
    return start("vllm_generate", lambda: vllm_server(DEMO_MODEL, log, generate=True))


@pytest.fixture
def vllm_key(start: Start, logs: Path) -> Server:
    """As `vllm_original`, with an API key, and named as the model on the hub."""

    def make() -> Server:
        log = logs / "vllm_key.log"
        return vllm_server(DEMO_MODEL, log, original=True, key=KEY, served=SERVED)

    return start("vllm_key", make)


@pytest.fixture
def sglang_causal(start: Start, logs: Path) -> Server:
    """SGLang, the causal checkpoint with the template that /v1/rerank needs."""

    def make() -> Server:
        _check(PYTHON)
        return sglang_server(DEMO_MODEL, logs / "sglang_causal.log", template=RERANK_TEMPLATE)

    return start("sglang_causal", make)


@pytest.fixture
def sglang_two_label(start: Start, logs: Path) -> Server:
    """SGLang as `serve` starts it: the checkpoint converted to two labels ([no, yes])."""

    def make() -> Server:
        _check(PYTHON)
        model = convert("demo", logs / "two_label", labels=2, engine="sglang").folder
        return launched_sglang(model, logs / "sglang_two_label.log")

    return start("sglang_two_label", make)


@pytest.fixture
def llama_cpp(start: Start, logs: Path) -> Server:
    """llama.cpp, the causal checkpoint as a GGUF file with head and template."""

    def make() -> Server:
        _check(LLAMA_CPP)
        return llama_cpp_server(DEMO_MODEL, logs / "llama_cpp.log")

    return start("llama_cpp", make)


@pytest.fixture
def infinity(start: Start, logs: Path) -> Server:
    """Infinity, the checkpoint converted to one label (yes - no)."""

    def make() -> Server:
        _check(INFINITY)
        model = convert("demo", logs / "infinity_one_label", labels=1).folder
        return infinity_server(model, logs / "infinity.log")

    return start("infinity", make)


@pytest.fixture
def litellm(start: Start, logs: Path, vllm_template: Server, infinity: Server) -> Server:
    """LiteLLM's proxy in front of `vllm_template` and `infinity`."""

    def make() -> Server:
        _check(LITELLM)
        return litellm_server(vllm_template, infinity, logs / "litellm.log")

    # Of these very servers: others have other ports.
    return start(f"litellm of {vllm_template.port} and {infinity.port}", make)


@pytest.fixture
def gateway(start: Start, logs: Path, vllm_template: Server) -> Server:
    """The gateway in front of `vllm_template`."""
    log = logs / "gateway.log"
    # Of this very server: another one has another port.
    return start(f"gateway of {vllm_template.port}", lambda: gateway_server(vllm_template, log))


def _check(program: Path) -> None:
    if not program.is_file():
        pytest.fail(f"{program} is missing: `make setup` makes it")
