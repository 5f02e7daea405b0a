"""What a soak test calls: an engine, three servers behind faulty proxies, and a gateway."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from cachetools import LRUCache

from qwen3_reranker import Reranker
from qwen3_reranker.convert import convert
from qwen3_reranker.model.checkpoint import DEMO_MODEL

from reliability.faulty_proxy import FaultyProxy
from support.engine_processes import engine_of
from support.helpers import EAGER
from support.servers.infinity_servers import infinity_server
from support.servers.llama_cpp_servers import llama_cpp_server
from support.servers.processes import MAX_LENGTH, Server
from support.servers.vllm_servers import launched_vllm

__all__ = ["Backends", "Journal", "opened", "processes_of"]

# The seconds without a sign of life after which a hung engine is ended, and those that a server may
# take for a call.
ENGINE_TIMEOUT, SERVER_TIMEOUT = 15, 20
# So few entries that the cache stores some in every call.
_ENTRIES = 40


class Journal(LRUCache[str, Any]):
    """
    A cache that writes each entry to a file before it keeps it.

    Attributes:
        file: The file, which may be on a disk without room, such as /dev/full.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(_ENTRIES)
        self.file = file

    def __setitem__(self, key: str, value: Any) -> None:
        with self.file.open("w", encoding="utf-8") as file:
            file.write(f"{key} {value}\n")
        super().__setitem__(key, value)


@dataclass
class Backends:
    """
    The rerankers that are called, and what is behind them.

    Attributes:
        rerankers: The rerankers, by name: "engine", "cached", "servers" and "gateway".
        journal: The cache of "cached", which shares the engine of "engine".
        file: A file on a disk with room, for `journal`.
        proxies: The proxies before the servers.
        servers: The servers, in the order of `proxies`.
        gateway: The process of the gateway.
    """

    rerankers: dict[str, Reranker]
    journal: Journal
    file: Path
    proxies: list[FaultyProxy]
    servers: list[Server]
    gateway: Server
    _answered: dict[str, list[float]] = field(default_factory=dict)

    def engine_process(self) -> psutil.Process | None:
        """Return the process of the engine; None while there is none."""
        running = engine_of(self.rerankers["engine"]).running
        if running is None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(running.client.pid)
        return None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record when each server answers, for `first_answer_after`."""
        stop = threading.Event()

        def watch() -> None:
            seen: dict[str, int] = {}
            while not stop.wait(0.1):
                for url, stats in self.rerankers["servers"].stats().endpoints.items():
                    if stats.requests > seen.get(url, 0):
                        seen[url] = stats.requests
                        self._answered.setdefault(url, []).append(time.monotonic())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def first_answer_after(self, url: str, moment: float) -> float | None:
        """Return the seconds from a moment to the next answer of a server, if any."""
        return next((at - moment for at in self._answered.get(url, ()) if at >= moment), None)


def processes_of(server: Server) -> list[psutil.Process]:
    """Return the processes of a server."""
    guard = server._guard
    return [] if guard is None else psutil.Process(guard.pid).children(recursive=True)


@contextmanager
def opened(folder: Path, *, light: bool) -> Iterator[Backends]:
    """
    Start an engine, servers and a gateway.

    Args:
        folder: A folder for logs, models and the cache.
        light: Whether all servers are llama.cpp's, which start in a second, instead of vLLM,
            llama.cpp and Infinity.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(make()) for make in _makers(folder, light=light)]
        proxies = [stack.enter_context(FaultyProxy(server.url)) for server in servers]
        urls = [proxy.url for proxy in proxies]
        settings: dict[str, Any] = {"tokenizer": "demo", "max_length": MAX_LENGTH}
        listed = [argument for url in urls for argument in ("--base-url", url)]
        command = [sys.executable, "-m", "qwen3_reranker", "gateway", *listed, "--port", "{port}"]
        command += ["--tokenizer", "demo", "--max-length", str(MAX_LENGTH)]
        command += ["--timeout", str(SERVER_TIMEOUT)]
        gateway = stack.enter_context(Server(command, folder / "gateway.log", health="/ready"))
        file = folder / "journal"
        journal = Journal(file)
        engine: dict[str, Any] = {"engine_args": EAGER, "timeout": ENGINE_TIMEOUT, "quiet": True}
        rerankers = {
            "engine": Reranker("demo", **engine),
            "cached": Reranker("demo", **engine, cache=journal),
            "servers": Reranker(base_url=urls, timeout=SERVER_TIMEOUT, **settings),
            "gateway": Reranker(base_url=gateway.url, timeout=SERVER_TIMEOUT, **settings),
        }
        for reranker in rerankers.values():
            stack.enter_context(reranker).warm_up()
        yield Backends(rerankers, journal, file, proxies, servers, gateway)


def _makers(folder: Path, *, light: bool) -> list[Callable[[], Server]]:
    def llama_cpp(name: str) -> Callable[[], Server]:
        return lambda: llama_cpp_server(DEMO_MODEL, folder / f"{name}.log")

    if light:
        return [llama_cpp("one"), llama_cpp("two")]
    return [
        lambda: launched_vllm("client", folder / "vllm.log"),
        llama_cpp("llama_cpp"),
        lambda: infinity_server(
            convert("demo", folder / "one_label", labels=1).folder, folder / "infinity.log"
        ),
    ]
