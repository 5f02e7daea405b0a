"""The client of an engine process: starts it, communicates with it, and ends it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3_reranker import event_loop
from qwen3_reranker.embedded import engine_files, protocol
from qwen3_reranker.embedded.devices import device_environment
from qwen3_reranker.embedded.engine_args import process_count
from qwen3_reranker.embedded.interpreter import engine_environment
from qwen3_reranker.embedded.process_end import EXIT_TIMEOUT, cause_of_end, signal_group
from qwen3_reranker.embedded.releases import CPU_PACKAGE, PACKAGE
from qwen3_reranker.errors import EngineError
from qwen3_reranker.redaction import Redactor, Secret
from qwen3_reranker.tracing import trace_headers

__all__ = ["PROGRAM", "EngineClient", "kill_all"]

_logger = logging.getLogger(__name__)

PROGRAM = Path(__file__).with_name("engine_process.py")
"""The program that runs in the engine process."""

_PACKAGES = (PACKAGE, CPU_PACKAGE)
# The number of seconds within which a killed process ends.
_KILLED = 10.0
# The least number of seconds without a sign of life for a start, since an import can hold the GIL.
_START_TIMEOUT = 60.0


class EngineClient:
    """
    A running engine process. Create and use it on the package's event loop.

    Args:
        python: The path of an interpreter that has vLLM.
        devices: The devices that the process may use. Empty for all.
        timeout: The number of seconds without a sign of life after which a busy process is ended.
            A start has at least 60.
        on_log: Called with the head of each log frame.
        token: The hub's access token, which errors must not show.

    Raises:
        EngineError: The process cannot be started, or its files cannot be created.

    Attributes:
        log: The file with the output of the process.
        reason: Why the process ended. None while it runs.
        socket: The client's end of the socket pair.
    """

    def __init__(
        self,
        python: str,
        *,
        devices: Sequence[str] = (),
        timeout: float,
        on_log: Callable[[Mapping[str, Any]], None],
        token: Secret | None = None,
    ) -> None:
        self.reason: str | None = None
        self._timeout = timeout
        self._on_log = on_log
        # It may also be True, which stands for the token that is logged in.
        given = token is not None and isinstance(token.reveal(), str)
        self._redactor = Redactor([token] if token is not None and given else [])
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[protocol.Frame]] = {}
        self._hello: asyncio.Future[protocol.Frame] = asyncio.get_running_loop().create_future()
        self._heard = True
        self._processes = 1
        self._traces = False
        self._ready = False
        self._keep_log = False
        self._reaping = threading.Lock()
        with contextlib.ExitStack() as cleanup:
            try:
                self._process = self._spawn(python, devices, cleanup)
            except (OSError, RuntimeError) as error:
                folder = tempfile.tempdir or os.environ.get("TMPDIR", "not set")
                raise EngineError(
                    f"the engine process cannot be started: {error} (TMPDIR, for its temporary "
                    f"files: {folder})"
                ) from error
            cleanup.pop_all()
        _running.add(self)
        self._writer: asyncio.StreamWriter | None = None
        self._tasks = [
            asyncio.create_task(self._read()),
            asyncio.create_task(self._watch()),
            asyncio.create_task(
                asyncio.to_thread(engine_files.remove_old_logs, self._folder.parent)
            ),
        ]

    def _spawn(
        self, python: str, devices: Sequence[str], cleanup: contextlib.ExitStack
    ) -> subprocess.Popen[bytes]:
        """Start the process, and register with `cleanup` what to undo after a failure."""
        self._folder = engine_files.make_folder()
        cleanup.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.log = self._folder / "engine.log"
        self.socket, theirs = socket.socketpair()
        _sockets.update((self.socket, theirs))
        cleanup.callback(self.socket.close)
        cleanup.callback(_sockets.discard, self.socket)
        try:
            with theirs, self.log.open("wb") as log:
                return subprocess.Popen(
                    [python, str(PROGRAM), str(theirs.fileno()), str(self._folder), *_PACKAGES],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=engine_environment(python, self._folder) | device_environment(devices),
                    pass_fds=[theirs.fileno()],
                    # Ctrl-C in the terminal must not reach it, and the group is killed as a whole.
                    process_group=0,
                )
        finally:
            _sockets.discard(theirs)

    @property
    def pid(self) -> int:
        """The id of the process, and of its process group."""
        return self._process.pid

    async def hello(self) -> Mapping[str, Any]:
        """
        Wait until the process has imported vLLM, and return the head of its hello frame.

        Returns:
            Among others the version of vLLM, the device, and its memory in bytes.

        Raises:
            EngineError: The process ended, or belongs to another version of this package.
        """
        head = (await self._hello).head
        if head.get("protocol") != protocol.VERSION:
            raise EngineError(
                f"the engine process speaks version {head.get('protocol')} of its protocol and "
                f"this program version {protocol.VERSION}: qwen3-reranker was upgraded while the "
                "program ran, so restart the program"
            )
        return head

    async def start(
        self, args: Mapping[str, Any], environment: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """
        Make vLLM's engine in the process, and wait until it is ready.

        Args:
            args: The keyword arguments for EngineArgs. The token among them is a `Secret`, which
                is revealed only when the frame is encoded.
            environment: The environment variables to set first.

        Returns:
            The engine's `max_model_len` and `dtype`.

        Raises:
            EngineError: The engine did not start, or the process ended.
        """
        self._processes = process_count(args)
        self._traces = args.get("otlp_traces_endpoint") is not None
        head = {"args": args, "environment": environment, "processes": self._processes}
        answer = await self._ask({"type": "start", **head})
        self._ready = True
        return answer.head

    async def encode(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """
        Return the raw logits of each prompt, in order: one number, or one per label.

        Canceling the awaiting task takes the prompts out of the engine.

        Args:
            prompts: The token ids of each prompt.

        Raises:
            EngineError: The engine rejected a prompt or failed on it, or the process ended.
        """
        head: dict[str, Any] = {"type": "encode", "count": len(prompts)}
        if self._traces:
            head["trace_headers"] = trace_headers()
        answer = await self._ask(head, protocol.pack_prompts(prompts))
        return protocol.unpack_rows(answer.body, answer.head["width"])

    async def count_requests(self) -> int:
        """Return the number of prompts that are in the engine."""
        return int((await self._ask({"type": "stats"})).head["requests"])

    async def reset_prefix_cache(self) -> None:
        """Clear the cache of common beginnings of prompts, for measurements."""
        await self._ask({"type": "reset_prefix_cache"})

    async def aclose(self) -> None:
        """Kill the process and its children, and wait until they have ended."""
        self._fail("the engine was closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self._reap)
        self._close()

    def kill(self) -> None:
        """Kill the process and its children, from any thread and without the event loop."""
        self.reason = self.reason or "the program ends"
        self._reap()

    async def _ask(self, head: dict[str, Any], body: bytes = b"") -> protocol.Frame:
        if self.reason is not None or self._writer is None:
            raise EngineError(self.reason or "the engine process has not said hello")
        number = next(self._numbers)
        answer: asyncio.Future[protocol.Frame] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send(self._writer, {**head, "id": number}, body)
        try:
            with contextlib.suppress(ConnectionError):  # the answer is an error in this case
                await self._writer.drain()
            return await answer
        except asyncio.CancelledError:
            if self.reason is None:
                self._send(self._writer, {"type": "abort", "id": number})
            raise
        finally:
            del self._waiting[number]

    def _send(self, writer: asyncio.StreamWriter, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame, unless the process has ended. Its calls fail once the cause is known."""
        if not writer.is_closing():  # asyncio would log each write
            writer.write(protocol.frame(head, body, default=Secret.reveal))

    async def _read(self) -> None:
        """Dispatch the frames that the process sends, until it ends."""
        decoder = protocol.Decoder()
        words = ""
        try:
            reader, self._writer = await asyncio.open_connection(sock=self.socket)
            while data := await reader.read(2**18):
                self._heard = True
                for frame in decoder.feed(data):
                    words = self._receive(frame) or words
        except protocol.ProtocolError as error:
            words = f"the engine process failed: {error}"
        except OSError:
            pass
        except Exception as error:  # noqa: BLE001  # pending calls must get an answer
            words = f"an answer of the engine process cannot be used: {error!r}"
        await self._ended(words)

    def _receive(self, frame: protocol.Frame) -> str:
        """Process a frame. Return why the engine has failed if it says so, otherwise ""."""
        kind, number = frame.head["type"], frame.head.get("id", 0)
        answer = self._hello if kind == "hello" else self._waiting.get(number)
        if kind == "log":
            self._on_log(frame.head)
        elif kind == "failed" and not number:
            return f"the engine failed: {self._redactor.text(frame.head['error'])}"
        elif answer is None or answer.done():
            pass  # the call has been canceled
        elif kind == "failed":
            error = self._redactor.text(frame.head["error"])
            answer.set_exception(EngineError(f"the engine failed on a request: {error}"))
        else:
            answer.set_result(frame)
        return ""

    async def _watch(self) -> None:
        """End the process if it gives no sign of life, for example because it was stopped."""
        interval, silent, busy = self._timeout / 4, 0, True
        while silent * interval < self._allowed():
            await asyncio.sleep(interval)
            # Intervals are counted instead of timed, since this program may have been stopped, too.
            # An idle process is silent, so an interval counts only if it was busy from its start.
            silent = silent + 1 if busy and not self._heard else 0
            busy = bool(self._waiting) or not self._hello.done()
            self._heard = False
        await self._ended(f"the engine process gave no sign of life for {silent * interval:g} s")

    def _allowed(self) -> float:
        """Return the seconds for which a busy process may be silent."""
        return self._timeout if self._ready else max(self._timeout, _START_TIMEOUT)

    async def _ended(self, words: str) -> None:
        """Handle the end of a process that was not closed."""
        if self.reason is not None:
            return
        reason = words or cause_of_end(await asyncio.to_thread(self._exit_code))
        if not words or "root cause" in words:  # vLLM's message refers to the log
            lines = await asyncio.to_thread(engine_files.last_lines, self.log, self._redactor)
            reason += "".join(f"\n{line}" for line in lines)
        _logger.warning("engine process %d has ended: %s", self.pid, reason.partition("\n")[0])
        # Set before the failure is visible, because the engine then closes this client at once.
        self._keep_log = True
        self._fail(f"{reason}\n(log: {self.log})")
        await asyncio.to_thread(self._reap)
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        else:
            self.socket.close()

    def _exit_code(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(EXIT_TIMEOUT)
        return None

    def _fail(self, reason: str) -> None:
        """Let all pending calls fail, unless they have failed already."""
        if self.reason is None:
            self.reason = reason
        for answer in (self._hello, *self._waiting.values()):
            if not answer.done():
                answer.set_exception(EngineError(self.reason))
                answer.exception()  # retrieve it, or asyncio logs one that nobody awaits

    def _reap(self) -> None:
        """Kill the process group, reap the process, and remove its files."""
        with self._reaping:
            if self not in _running:
                return
            if not self._keep_log:  # when the socket ends, the process removes its files
                with contextlib.suppress(OSError):
                    self.socket.shutdown(socket.SHUT_RDWR)
            deadline = time.monotonic() + (protocol.GRACE if self._processes > 1 else 0)
            while signal_group(self.pid, 0) and time.monotonic() < deadline:
                self._process.poll()
                time.sleep(0.02)
            signal_group(self.pid, signal.SIGKILL)
            # It takes longer only if the kernel hangs, as a GPU's driver can.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILLED)
            if self._keep_log:
                engine_files.keep_log(self.log)
            else:
                shutil.rmtree(self._folder, ignore_errors=True)
            _running.discard(self)
            _sockets.discard(self.socket)


_running: set[EngineClient] = set()
# Both ends of the socket pairs: the engine's end until its process has inherited it.
_sockets: set[socket.socket] = set()


def kill_all() -> None:
    """Kill all engine processes of this program, and wait until they have ended."""
    for client in list(_running):
        client.kill()


def _after_fork() -> None:
    """In a forked child, close the copies of the sockets: when all are closed, the engine ends."""
    for sock in _sockets:
        with contextlib.suppress(OSError):  # closed already
            os.close(sock.detach())
    _sockets.clear()
    _running.clear()


atexit.register(kill_all)
event_loop.after_fork(_after_fork)
