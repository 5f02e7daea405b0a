"""Ctrl-C, as a terminal sends it: the end without waiting, exit code 130, and one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import check_interrupted, interrupted
from support.doctor_servers import vllm
from support.scripted_server import HANG, ScriptedServer, classify

pytestmark = pytest.mark.slow

NOISE = ("Traceback", "never retrieved", "never awaited", "was destroyed", "Exception ignored")
SCRIPT = """
import sys
from qwen3_reranker import Reranker
pairs = [(f"query {{i}}", ["one", "two"]) for i in range(200)]
with Reranker(base_url=sys.argv[1]) as reranker:
    {call}
"""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def test_in_a_call_that_is_never_answered(server: ScriptedServer, tmp_path: Path) -> None:
    server.always(HANG)
    (tmp_path / "a.txt").write_text("one\ntwo\n", "utf-8")
    ask = ("-m", "qwen3_reranker", "rerank", "q", str(tmp_path / "a.txt"), "--base-url", server.url)
    check_interrupted(*interrupted(*ask, when=server.asked))


def test_in_a_long_file(server: ScriptedServer, tmp_path: Path) -> None:
    server.always(lambda request: classify(request) if len(server.asked()) < 6 else HANG)
    (tmp_path / "a.txt").write_text("".join(f"line {i}\n" for i in range(20_000)), "utf-8")
    ask = ("-m", "qwen3_reranker", "rerank", "q", str(tmp_path / "a.txt"), "--base-url", server.url)
    check_interrupted(*interrupted(*ask, when=lambda: len(server.asked()) >= 6))


def test_while_standard_input_goes_on(server: ScriptedServer) -> None:
    ask = ("-m", "qwen3_reranker", "rerank", "q", "-", "--base-url", server.url)
    lines = "".join(f"line {i}\n" for i in range(1100))  # a part, and the beginning of the next

    def scored() -> bool:
        return sum(len(request.body["input"]) for request in server.asked()) >= 1024

    check_interrupted(*interrupted(*ask, when=scored, stdin=lines))


@pytest.mark.parametrize("path", ["/v1/models", "/classify"])
def test_in_the_doctor(path: str) -> None:
    script = dict(vllm())
    method = "GET" if path == "/v1/models" else "POST"
    script[method, path] = lambda _: HANG
    with ScriptedServer(script) as server:
        check_interrupted(
            *interrupted(
                *("-m", "qwen3_reranker", "doctor", server.url), when=lambda: server.asked(path)
            )
        )


@pytest.mark.parametrize("command", ["rerank", "doctor"])
def test_in_an_engines_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    # vLLM's place is taken by one that never has started; it says when it is asked.
    packages, temporary = tmp_path / "packages", tmp_path / "temporary"
    for folder in (packages / "vllm", packages / "vllm-0.32.0.dist-info", temporary):
        folder.mkdir(parents=True)
    (packages / "torch.py").touch()
    (packages / "vllm" / "__init__.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\ntime.sleep(60)\n"
    )
    (packages / "vllm-0.32.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "a.txt").write_text("one\n", "utf-8")
    monkeypatch.setenv("QWEN3_RERANKER_ENGINE_PYTHON", str(python))
    monkeypatch.setenv("TMPDIR", str(temporary))
    arguments = (
        ["q", str(tmp_path / "a.txt"), "--model", "demo"] if command == "rerank" else ["demo"]
    )
    start = ("-m", "qwen3_reranker", command)
    check_interrupted(*interrupted(*start, *arguments, when=(tmp_path / "started").exists))
    # Nor is anything left behind.
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        "reranker.rerank(*pairs[0])",
        "reranker.rerank_many(pairs)",
        "list(reranker.rerank_iter(pairs))",
        "reranker.describe()",
    ],
)
def test_a_script_ends_with_its_own_traceback_alone(
    server: ScriptedServer, tmp_path: Path, call: str
) -> None:
    server.always(HANG)
    (tmp_path / "script.py").write_text(SCRIPT.format(call=call), "utf-8")
    code, _, errors = interrupted(str(tmp_path / "script.py"), server.url, when=server.asked)
    assert code == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.endswith("KeyboardInterrupt\n")
    assert not any(words in errors for words in NOISE[1:])
