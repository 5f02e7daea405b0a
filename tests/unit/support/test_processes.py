"""The servers of the tests leave nothing behind, however a test run ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from support.servers.processes import Server

pytestmark = pytest.mark.slow

# A server that starts another process, and both take no notice of a polite request to end.
STUBBORN = """
import http.server, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child])
print("child", process.pid, flush=True)
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from support.servers.processes import Server
command = [sys.executable, "-c", sys.argv[1], "{port}"]
server = Server(command, Path(sys.argv[2]), health="/").__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


def child_of(log: str) -> int:
    return int(log.split("child ")[1].split(maxsplit=1)[0])


def test_it_ends_with_its_children(tmp_path: Path) -> None:
    server = Server([sys.executable, "-c", STUBBORN, "{port}"], tmp_path / "log", health="/")
    with server:
        assert httpx.get(server.url).status_code == 200
        child = child_of(server.log())
        assert psutil.pid_exists(child)
    assert not psutil.pid_exists(child)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_a_server_ends_when_the_tests_are_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", KILLED, STUBBORN, str(log)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    child = child_of(log.read_text())
    deadline = time.monotonic() + 60
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(child)


def test_a_server_that_dies_reports_why_at_once(tmp_path: Path) -> None:
    server = Server([sys.executable, "-c", "raise ValueError('no such model')"], tmp_path / "log")
    before = time.monotonic()
    with pytest.raises(RuntimeError, match="no such model"), server:
        pass
    assert time.monotonic() - before < 30
