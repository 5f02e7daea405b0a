"""
The engine process: runs vLLM's LLMEngine for the program that started it.

An interpreter that has vLLM runs it as a file, `python engine_process.py FD FOLDER PACKAGE...`. FD
is the inherited end of a socket pair, FOLDER is removed when the other end is closed, and each
PACKAGE is a name of vLLM on the package index. The process uses the standard library, vLLM and
`protocol.py`, but nothing else of this package, so that vLLM can be in an environment of its own.

A killed program cannot clean up, but the operating system closes its sockets. So the end of the
socket is the signal to shut down, with all child processes. A thread reads the socket, so that this
works while vLLM is being imported, loads a model or computes, and so that the program never has to
wait for a full socket.
"""

from __future__ import annotations

import contextlib
import faulthandler
import getpass
import importlib.util
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from array import array
from pathlib import Path
from queue import SimpleQueue
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_reranker.embedded import protocol
else:
    _spec = importlib.util.spec_from_file_location(
        "qwen3_reranker_protocol", Path(__file__).with_name("protocol.py")
    )
    protocol = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(protocol)

# The interval of the signs of life that a busy process sends, in seconds. They distinguish a
# process that computes from one that was stopped.
_SIGN_OF_LIFE = 0.25
# The beginnings of messages in vLLM's log (0.27 to 0.32) that mark the stages of a start.
_STAGES = {
    "Starting to load model": "load",
    "Warming up model for the compilation": "compile",
    "Dynamo bytecode transform": "compile",
}


class Connection:
    """
    The connection to the program. Frames can be sent from any thread, without waiting.

    Args:
        sock: The inherited end of the socket pair.
        folder: The folder to remove when the socket ends. None removes nothing.

    Attributes:
        inbox: The frames received.
        busy: Whether to send signs of life.
    """

    def __init__(self, sock: socket.socket, folder: str | None = None) -> None:
        sock.setblocking(False)  # noqa: FBT003
        self.inbox: SimpleQueue[protocol.Frame] = SimpleQueue()
        self.busy = True
        self._sock = sock
        self._folder = folder
        self._unsent = bytearray()
        self._sent_at = time.monotonic()
        self._lock = threading.Lock()
        self._sent = threading.Condition(self._lock)
        self._wake_read, self._wake_write = os.pipe()
        threading.Thread(target=self._run, name="connection", daemon=True).start()

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame, see `protocol.frame`."""
        with self._lock:
            self._sent_at = time.monotonic()
            self._unsent += protocol.frame(head, body)
            self._flush()
            if self._unsent:
                os.write(self._wake_write, b"x")

    def wait_until_sent(self, seconds: float) -> None:
        """Wait until all frames have been sent, but at most for a number of seconds."""
        with self._sent:
            self._sent.wait_for(lambda: not self._unsent, seconds)

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # reading finds the end of the socket, too
        self._sent.notify_all()

    def _run(self) -> None:
        decoder = protocol.Decoder()
        selector = DefaultSelector()
        selector.register(self._sock, EVENT_READ)
        selector.register(self._wake_read, EVENT_READ)
        while True:
            with self._lock:
                self._flush()
                events = EVENT_READ | (EVENT_WRITE if self._unsent else 0)
            selector.modify(self._sock, events)
            ready = selector.select(_SIGN_OF_LIFE)
            if self.busy and time.monotonic() - self._sent_at >= _SIGN_OF_LIFE:
                self.send({"type": "log"})
            for key, mask in ready:
                if key.fd == self._wake_read:
                    os.read(self._wake_read, 4096)
                elif mask & EVENT_READ:
                    self._read(decoder)

    def _read(self, decoder: protocol.Decoder) -> None:
        try:
            data = self._sock.recv(2**18)
            if data:
                for frame in decoder.feed(data):
                    self.inbox.put(frame)
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # the socket ended with unread data
        except protocol.ProtocolError as error:
            self.send({"type": "failed", "error": str(error)})
            _print_exception()
            leave()  # without removing the folder, because the program reads the log in it
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        leave()


def leave() -> None:
    """End this process and its process group, which contains its children."""
    if _workers:
        with contextlib.suppress(Exception):
            _end_workers()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _end_workers() -> None:
    """Let vLLM's worker processes clean up for a few seconds."""
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + protocol.GRACE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _print_exception() -> None:
    with contextlib.suppress(OSError):  # the disk may be full
        traceback.print_exc()


_workers = False


class Engine:
    """
    vLLM's LLMEngine, which scores the prompts of each query together.

    Args:
        connection: The source of requests, and the destination of results.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queries: dict[int, Query] = {}
        self._llm: Any = None

    def start(self) -> None:
        """Import vLLM, send the hello frame, and make the engine that the start frame describes."""
        global _workers
        connection = self._connection
        stage = {"stage": "import", "vllm": _installed_version(), "can_compile": can_compile()}
        connection.send({"type": "log", **stage})
        _share_precompiled_headers()
        import torch
        import vllm
        from vllm import PoolingParams
        from vllm.engine.arg_utils import EngineArgs
        from vllm.inputs import tokens_input
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        cpu = current_platform.is_cpu()
        connection.send(
            {
                "type": "hello",
                "protocol": protocol.VERSION,
                "vllm": vllm.__version__,
                "device": current_platform.device_type,
                "memory": None if cpu else current_platform.get_device_total_memory(),
                "can_compile": not cpu or can_compile(),
            }
        )
        head = self._next().head
        args, environment = head["args"], head["environment"]
        os.environ.update(environment)
        if "OMP_NUM_THREADS" in environment:
            # OpenMP has read this variable already, when torch was imported.
            torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
        _workers = head["processes"] > 1
        logging.getLogger("vllm").addHandler(_Stages(connection))
        self._llm = LLMEngine.from_engine_args(EngineArgs(**args))
        self._tokens_input = tokens_input
        # Raw logits, because a checkpoint's config can name a wrong activation.
        self._params = PoolingParams(task="classify", use_activation=False)
        config = self._llm.vllm_config.model_config
        connection.send(
            {
                "type": "ready",
                "id": head["id"],
                "max_model_len": config.max_model_len,
                "dtype": str(config.dtype).removeprefix("torch."),
            }
        )

    def run(self) -> None:
        """Serve requests until the end of the connection ends the process."""
        while True:
            self._connection.busy = self._llm.has_unfinished_requests()
            # All requests that have arrived join the next step. Only an idle engine waits for one.
            while not self._connection.busy or not self._connection.inbox.empty():
                self._handle(self._next())
                self._connection.busy = self._llm.has_unfinished_requests()
            for output in self._llm.step():
                self._take(output)

    def _next(self) -> protocol.Frame:
        return self._connection.inbox.get()

    def _handle(self, frame: protocol.Frame) -> None:
        kind, number = frame.head["type"], frame.head["id"]
        if kind == "encode":
            prompts = protocol.unpack_prompts(frame.body, frame.head["count"])
            self._add(number, prompts, frame.head.get("trace_headers"))
        elif kind == "abort":
            self._abort(number)
        elif kind == "reset_prefix_cache":
            self._llm.reset_prefix_cache()
            self._connection.send({"type": "result", "id": number})
        elif kind == "stats":
            requests = self._llm.get_num_unfinished_requests()
            self._connection.send({"type": "result", "id": number, "requests": requests})

    def _add(
        self, number: int, prompts: list[list[int]], trace_headers: dict[str, str] | None
    ) -> None:
        options = {} if trace_headers is None else {"trace_headers": trace_headers}
        query = self._queries[number] = Query(len(prompts))
        for index, ids in enumerate(prompts):
            try:
                name = f"{number}-{index}"
                self._llm.add_request(name, self._tokens_input(ids), self._params, **options)
            except Exception as error:  # noqa: BLE001  # vLLM raises many types
                self._fail(number, f"{type(error).__name__}: {error}")
                return
            query.unfinished.add(name)
        if not prompts:
            self._complete(number, query)

    def _take(self, output: Any) -> None:
        """Store the logits of a finished prompt. The last one completes its query."""
        number, _, index = output.request_id.partition("-")
        query = self._queries.get(int(number))
        if query is None or not output.finished:
            return
        query.unfinished.discard(output.request_id)
        # vLLM 0.33 reports a failed request as a score of 0.0, with an `error`.
        error = getattr(output, "error", None)
        if error is not None:
            self._fail(int(number), str(error))
            return
        query.rows[int(index)] = output.outputs.data.flatten().tolist()
        if not query.unfinished:
            self._complete(int(number), query)

    def _complete(self, number: int, query: Query) -> None:
        del self._queries[number]
        body = array("d", [value for row in query.rows for value in row]).tobytes()
        width = len(query.rows[0]) if query.rows else 1
        self._connection.send({"type": "result", "id": number, "width": width}, body)

    def _fail(self, number: int, error: str) -> None:
        self._abort(number)
        self._connection.send({"type": "failed", "id": number, "error": error})

    def _abort(self, number: int) -> None:
        query = self._queries.pop(number, None)
        if query is not None:
            self._llm.abort_request(sorted(query.unfinished))


class Query:
    """
    The prompts of one encode frame.

    Args:
        count: The number of prompts.

    Attributes:
        unfinished: The names of the requests that are in the engine.
        rows: The logits of each prompt; empty until they are known.
    """

    def __init__(self, count: int) -> None:
        self.unfinished: set[str] = set()
        self.rows: list[list[float]] = [[]] * count


class _Stages(logging.Handler):
    """Report the stages of a start, which vLLM's log messages mark."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.INFO)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send the stage that a log message marks, if any."""
        for words, stage in _STAGES.items():
            if str(record.msg).startswith(words):
                self._connection.send({"type": "log", "stage": stage})


def can_compile() -> bool:
    """Return whether torch.compile can compile for a CPU: with a compiler and Python's headers."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return shutil.which(os.environ.get("CXX", "g++")) is not None and headers.is_file()


def _share_precompiled_headers() -> None:
    """
    Let all engines share torch's precompiled C++ headers, which take seconds to compile.

    torch 2.13 stores them in the temporary folder, regardless of TORCHINDUCTOR_CACHE_DIR, and every
    engine has a temporary folder of its own.
    """
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # If the link cannot be made, the start only takes longer.
    with contextlib.suppress(OSError, KeyError):
        if cache:
            link = Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
            link.symlink_to(cache, target_is_directory=True)


def _installed_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    for name in sys.argv[3:]:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def main() -> None:
    """Serve the program that started this process."""
    faulthandler.enable()
    # Python puts this file's folder first, but its modules must not be importable by their names.
    folder = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path != folder]
    # Before threads start, which inherit it, and before torch asks how many cores there are.
    if cores := os.environ.get(protocol.CORES_VARIABLE):
        os.sched_setaffinity(0, set(map(int, cores.split(","))))
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    connection = Connection(sock, sys.argv[2])
    try:
        engine = Engine(connection)
        engine.start()
        engine.run()
    except BaseException as error:  # noqa: BLE001  # the program gets a message about every end
        connection.send({"type": "failed", "error": f"{type(error).__name__}: {error}"})
        _print_exception()
        connection.wait_until_sent(5)
        leave()


if __name__ == "__main__":
    main()
