"""A server's process: what it writes, how it ends, and that nothing of it stays."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from qwen3_reranker import EngineError, InputError
from qwen3_reranker.serve import Launch, Server, launch, serve
from qwen3_reranker.serve.options import Device

from support.servers.processes import free_port

pytestmark = pytest.mark.slow

# Healthy at once, says what it was given, starts another process, and neither is polite.
FAKE = """
import http.server, os, signal, subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"
process = subprocess.Popen([sys.executable, "-c", child])
print("child", process.pid, flush=True)
print("server_args=ServerArgs(", repr(sys.argv[1:]), os.environ.get("VLLM_API_KEY"), flush=True)
print("threads", os.environ.get("OMP_NUM_THREADS"), flush=True)
print("loading\\rloaded", end="", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *args):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
DIES = "import sys; print('no such model'); sys.exit(7)"
HANGS = "import time; print('loading', flush=True); time.sleep(120)"
# A program that serves, and is ended by a signal.
PROGRAM = """
import signal, sys
# Under nohup or in a script's background they are inherited as ignored, and serve leaves them so.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import replace
from qwen3_reranker.serve import launch, serve
program = (sys.executable, "-c", sys.argv[2]), "--model"
made = launch("demo", port=int(sys.argv[1]), version="0.32.0", device="cpu")
made = replace(made, installed=True, program=program)
serve(made, show=lambda line: print(line, flush=True))
print("ended", flush=True)
"""


def fake(code: str, **arguments: str | None) -> Launch:
    made = launch("demo", port=free_port(), version="0.32.0", device="cpu", **arguments)  # type: ignore[arg-type]
    return replace(made, installed=True, program=((sys.executable, "-c", code), "--model"))


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_it_ends_with_its_children_and_keeps_the_key(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("RERANK_KEY", "it's-secret")
    log = io.StringIO()
    made = fake(FAKE, api_key_variable="RERANK_KEY")
    if engine == "sglang":
        assert made.key is not None
        made = replace(made, key=replace(made.key, target="--api-key"))
    with Server(made, log=log, patience=0.5) as server:
        assert server.wait(60)
        assert server.start_seconds > 0
        with pytest.raises(InputError, match="cannot listen on port"), Server(made):
            pass
    child = int(log.getvalue().split()[1])
    assert gone(child)
    assert "***" in log.getvalue()
    assert "secret" not in log.getvalue() + server.tail
    assert log.getvalue().endswith("loading\rloaded\n")


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_it_uses_what_this_machine_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 24564\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    made = launch("demo", port=free_port(), version="0.32.0", device=device, extra=("--seed", "7"))
    made = replace(made, installed=True, program=((sys.executable, "-c", FAKE), "--model"))
    log = io.StringIO()
    with Server(made, log=log, patience=0.5) as server:
        assert server.wait(60)
    assert ("'--gpu-memory-utilization', '0." in log.getvalue()) == (device == "gpu")
    assert "'--seed', '7']" in log.getvalue()  # in the end, where it wins
    assert ("threads None" in log.getvalue()) == (device == "gpu")


def test_a_server_that_dies_reports_why() -> None:
    log = io.StringIO()
    with pytest.raises(EngineError, match=r"status 7:\nno such model"):
        serve(fake(DIES), log=log, show=lambda _: None)
    assert log.getvalue() == "no such model\n"


def test_a_missing_program_is_named() -> None:
    made = replace(fake(DIES), program=(("/nowhere/vllm", "serve"), ""))
    with pytest.raises(EngineError, match=r"(?s)status 127.*/nowhere/vllm cannot be started"):
        serve(made, log=io.StringIO(), show=lambda _: None)


def test_a_server_that_never_becomes_ready_times_out() -> None:
    log = io.StringIO()
    with pytest.raises(EngineError, match=r"not ready after 2 s:\nloading"):
        serve(fake(HANGS), timeout=2, log=log, show=lambda _: None)


def test_it_ends_while_it_starts() -> None:
    with Server(fake(HANGS), log=io.StringIO()) as server:
        deadline = time.monotonic() + 1
        assert not server.wait(60, lambda: time.monotonic() > deadline)


def test_a_log_that_is_closed_ends_nothing() -> None:
    log = io.StringIO()
    log.close()
    with Server(fake(FAKE), log=log, patience=0.5) as server:
        assert server.wait(60)
        assert "child" in server.tail


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_stays_when_a_signal_ends_it(tmp_path: Path, kind: signal.Signals) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(free_port()), FAKE.replace("SIG_IGN", "SIG_DFL")],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            # In a terminal Ctrl-C reaches the whole group; what it starts is in others.
            start_new_session=True,
        )
        assert program.stdout is not None
        lines: list[str] = []
        while not any(line.startswith("LlamaIndex") for line in lines):
            lines.append(program.stdout.readline())
            assert lines[-1], log.read_text()
        children = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
        assert len(children) >= 3
        os.killpg(program.pid, kind)
        rest = program.stdout.read()
        assert program.wait(60) == (-kind if kind == signal.SIGKILL else 0)
    assert all(map(gone, children))
    assert ("ended" in rest) == (kind != signal.SIGKILL)
    assert lines[1].startswith("http://127.0.0.1:")
