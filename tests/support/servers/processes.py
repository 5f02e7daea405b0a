"""Start a real server as a process, wait until it is healthy, and stop it reliably."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from qwen3_reranker.serve import guard

__all__ = ["MAX_LENGTH", "Server", "free_port"]

# The maximum number of tokens in a prompt: few, so that a text is soon too long.
MAX_LENGTH = 2048

PATIENCE = "5"  # seconds for an orderly end
START_LIMIT = 500.0
TAIL = 4000


def free_port() -> int:
    """
    Return a port of 127.0.0.1 on which nothing listens.

    It is below the range from which the system assigns ports, because a server takes half a minute
    until it listens, and other tests open connections meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Server:
    """
    A server that runs during a `with` block. It can be started again, on the same port.

    Args:
        command: The command that starts it. "{port}" in an argument is replaced by the port.
        log: The file for its output.
        env: Environment variables to add to those of this process. None removes one.
        health: The path that answers 200 when the server is ready.
        served: The name of the model that it serves.
        key: The API key that it requires; "" if none.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str | None] | None = None,
        health: str = "/health",
        served: str = "",
        key: str = "",
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.served = served
        self.key = key
        self.log_path = log
        self.start_seconds = 0.0
        self._command = [argument.replace("{port}", str(self.port)) for argument in command]
        variables = {**os.environ, **(env or {})}
        self._env = {name: value for name, value in variables.items() if value is not None}
        self._health = self.url + health
        self._guard: subprocess.Popen[bytes] | None = None

    def log(self) -> str:
        """What the server has written so far."""
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        started = time.monotonic()
        with self.log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, PATIENCE, *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                # Ctrl-C goes to the tests alone: what they end, they end through the pipe.
                start_new_session=True,
            )
        try:
            self._wait(started + START_LIMIT)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Have it ended, and wait until it is gone."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def kill(self) -> None:
        """Kill it and its children at once, as if memory ran out. It can be started again."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.stop()

    def processes(self) -> list[psutil.Process]:
        """Return its processes."""
        assert self._guard is not None
        return psutil.Process(self._guard.pid).children(recursive=True)

    def _wait(self, deadline: float) -> None:
        while not self._healthy():
            assert self._guard is not None
            if self._guard.poll() is not None:
                raise RuntimeError(f"the server died while it started:\n{self.log()[-TAIL:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the server is not up after {START_LIMIT:.0f} s:\n{self.log()[-TAIL:]}"
                )
            time.sleep(0.2)

    def _healthy(self) -> bool:
        request = urllib.request.Request(self._health)
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
