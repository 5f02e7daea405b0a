"""What a soak test calls: an engine, three servers behind faulty proxies, and a gateway."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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

__all__ = [
    "ENGINE_TIMEOUT",
    "GATEWAY_TIMEOUT",
    "SERVER_TIMEOUT",
    "Backends",
    "Journal",
    "opened",
]

# The seconds without a sign of life after which a hung engine is ended, those that a server may
# take for a call, and those that the gateway may: time enough to ask all of its servers.
ENGINE_TIMEOUT, SERVER_TIMEOUT, GATEWAY_TIMEOUT = 15, 30, 95
# The seconds that a call may take longer on a busy machine, and those that a call to an engine may
# take, for which nothing is promised: the engine may have to start.
_SLACK, _ENGINE_LIMIT = 15, 240
# No call waits for a free connection: nothing is promised about how long that takes.
_CONNECTIONS = 400
# So few entries that the cache stores some in every call.
_ENTRIES = 40


class Journal(LRUCache[str, Any]):
    """
    A cache that writes each entry to a file before it keeps it.

    Attributes:
        file: The file, which may be on a disk without room, such as /dev/full.
        failures: How often it could not be written.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(_ENTRIES)
        self.file = file
        self.failures = 0

    def __setitem__(self, key: str, value: Any) -> None:
        try:
            self.file.write_text(f"{key} {value}\n", "utf-8")
        except OSError:
            self.failures += 1
            raise
        super().__setitem__(key, value)


@dataclass
class Backends:
    """
    The rerankers that are called, and what is behind them.

    Attributes:
        rerankers: The rerankers, by name: "engine", "cached", "servers" and "gateway".
        limits: The seconds that a call of each reranker may take.
        journal: The cache of "cached", which shares the engine of "engine".
        file: A file on a disk with room, for `journal`.
        proxies: The proxies before the servers.
        servers: The servers, in the order of `proxies`.
        gateway: The process of the gateway.
    """

    rerankers: dict[str, Reranker]
    limits: dict[str, float]
    journal: Journal
    file: Path
    proxies: list[FaultyProxy]
    servers: list[Server]
    gateway: Server

    def engine_process(self) -> psutil.Process | None:
        """Return the process of the engine; None while there is none."""
        running = engine_of(self.rerankers["engine"]).running
        if running is None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(running.client.pid)
        return None

    def requests(self, url: str) -> int:
        """Return how many requests of "servers" a server has answered, by the URL of its proxy."""
        return self.rerankers["servers"].stats().endpoints[url].requests

    def failures(self, name: str) -> int:
        """Return how many attempts failed on a server, by the URL of its proxy, or on "gateway"."""
        of = name if name == "gateway" else "servers"
        url = self.gateway.url if name == "gateway" else name
        return self.rerankers[of].stats().endpoints[url].failures


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
        settings["max_concurrency"] = _CONNECTIONS
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
            "gateway": Reranker(base_url=gateway.url, timeout=GATEWAY_TIMEOUT, **settings),
        }
        for reranker in rerankers.values():
            stack.enter_context(reranker).warm_up()
        limits: dict[str, float] = {
            "engine": _ENGINE_LIMIT,
            "cached": _ENGINE_LIMIT,
            "servers": SERVER_TIMEOUT * len(servers) + _SLACK,
            "gateway": GATEWAY_TIMEOUT + _SLACK,
        }
        yield Backends(rerankers, limits, journal, file, proxies, servers, gateway)


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
