"""The command `gateway` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from support.gateway import until
from support.servers.processes import free_port


class Started:
    """
    The command in a process of its own.

    Args:
        options: The command's options.
        env: Further environment variables.
        stdout: The file descriptor for the access log; None keeps it for `logged()`.
    """

    def __init__(
        self, *options: str, env: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it is read at the end
        self.process = subprocess.Popen(
            [sys.executable, "-m", "qwen3_reranker", "gateway", *options, "--port", str(self.port)],
            env={**os.environ, **(env or {})},
            stderr=subprocess.PIPE,
            stdout=self._log if stdout is None else stdout,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def says(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def logged(self) -> list[str]:
        """Return the lines of the access log."""
        self._log.seek(0)
        return self._log.readlines()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(30)
        return code


@contextmanager
def started(
    *options: str, env: Mapping[str, str] | None = None, stdout: int | None = None
) -> Iterator[Started]:
    """Yield the command when it listens; the arguments are those of `Started`."""
    gateway = Started(*options, env=env, stdout=stdout)
    try:
        until(lambda: gateway.says(f"listening on {gateway.url}") or gateway.process.poll())
        yield gateway
    finally:
        gateway.process.kill()
        gateway.process.wait()
