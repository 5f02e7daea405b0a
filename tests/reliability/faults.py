"""The faults of a soak test. Each is a context manager: the fault lasts as long as its block."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from reliability import faulty_proxy
from reliability.backends import Backends, processes_of
from reliability.cases import TOLERANCE, Case
from reliability.faulty_proxy import FaultyProxy
from support.servers.processes import Server

__all__ = ["Fault", "Forks", "all_faults"]

# The seconds after which a forked child is given up, and the number of children.
_PATIENCE, _CHILDREN = 60, 3
_RIGHT = "right"
_SPOILED_AT_LEAST = 3
_DAY = 86_400.0
# What an engine whose memory is limited may take besides what it has, in bytes: less than a batch
# needs.
_SPARE = 8 * 2**20


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    Attributes:
        name: Its name.
        inject: Begins it, yields what has to recover (the name of a reranker or the URL of a
            server), and ends it.
        units: How long it lasts, as a multiple of the schedule's unit.
    """

    name: str
    inject: Callable[[], AbstractContextManager[str]]
    units: float = 1.0


@dataclass
class Forks:
    """
    What became of the forked children.

    Attributes:
        right: How many got the right scores.
        wrong: What the others did.
    """

    right: int = 0
    wrong: list[str] = field(default_factory=list)


def all_faults(backends: Backends, cases: Sequence[Case], forks: Forks) -> list[Fault]:
    """Return the faults of one round of the schedule, in order."""
    proxies, servers = backends.proxies, backends.servers
    wire = [
        Fault(f"{name} answers", partial(_spoiled, [proxies[place % len(proxies)]], name))
        for place, name in enumerate(faulty_proxy.FAULTS)
    ]
    everywhere = [
        Fault(f"{name} answers of all servers", partial(_spoiled, proxies, name))
        for name in ("reset", "storm")
    ]
    killed = [
        Fault("a server is killed", partial(_killed, server, proxy.url), 0.5)
        for server, proxy in zip(servers, proxies, strict=True)
    ]
    return [
        *wire,
        *everywhere,
        *killed,
        Fault("a server hangs", partial(_hung, servers[0], proxies[0].url), 3),
        Fault("the gateway is killed", partial(_killed, backends.gateway, "gateway"), 0.5),
        Fault("the gateway hangs", partial(_hung, backends.gateway, "gateway")),
        Fault("the engine is killed", partial(_engine_killed, backends), 0),
        Fault("the engine hangs", partial(_engine_hung, backends), 3),
        Fault("the engine has no memory", partial(_engine_starved, backends)),
        Fault("the cache's disk is full", partial(_disk_full, backends)),
        Fault("the clock is set a day ahead", partial(_clock_set, _DAY)),
        Fault("the clock is set a day back", partial(_clock_set, -_DAY)),
        Fault("the process forks", partial(_forked, backends, cases, forks), 0),
    ]


@contextmanager
def _spoiled(proxies: Sequence[FaultyProxy], fault: str) -> Iterator[str]:
    """Spoil answers, at least a few of each proxy: a busy server gets few requests in a second."""
    before = [proxy.met[fault] for proxy in proxies]
    for proxy in proxies:
        proxy.fault = fault
    try:
        yield "servers" if len(proxies) > 1 else proxies[0].url
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and any(
            proxy.met[fault] < number + _SPOILED_AT_LEAST
            for proxy, number in zip(proxies, before, strict=True)
        ):
            time.sleep(0.05)
    finally:
        for proxy in proxies:
            proxy.fault = None


@contextmanager
def _killed(server: Server, name: str) -> Iterator[str]:
    server.kill()
    yield name
    server.__enter__()  # again, on the same port


@contextmanager
def _hung(server: Server, name: str) -> Iterator[str]:
    with _suspended(processes_of(server)):
        yield name


@contextmanager
def _engine_killed(backends: Backends) -> Iterator[str]:
    if (process := backends.engine_process()) is not None:
        process.kill()
    yield "engine"


@contextmanager
def _engine_hung(backends: Backends) -> Iterator[str]:
    process = backends.engine_process()
    with _suspended([] if process is None else [process]):
        yield "engine"


@contextmanager
def _suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stop processes with SIGSTOP, and let them continue."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def _engine_starved(backends: Backends) -> Iterator[str]:
    """Let the engine's process have no more memory than it has."""
    process = backends.engine_process()
    if process is None:
        yield "engine"
        return
    limit = process.memory_info().vms + _SPARE
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        yield "engine"
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, unlimited)


@contextmanager
def _disk_full(backends: Backends) -> Iterator[str]:
    backends.journal.file = Path("/dev/full")  # which says "No space left on device"
    try:
        yield "cached"
    finally:
        backends.journal.file = backends.file


@contextmanager
def _clock_set(seconds: float) -> Iterator[str]:
    """Step the wall clock of this process, as far as Python code reads it."""
    real = time.time

    def stepped() -> float:
        return real() + seconds

    holders = [m for m in list(sys.modules.values()) if vars(m).get("time") is real]
    for module in holders:
        vars(module)["time"] = stepped
    time.time = stepped
    try:
        yield "servers"
    finally:
        time.time = real
        for module in holders:
            vars(module)["time"] = real


@contextmanager
def _forked(backends: Backends, cases: Sequence[Case], forks: Forks) -> Iterator[str]:
    """Fork, and have the children call the servers with the reranker that they inherit."""
    children = []
    for _ in range(_CHILDREN):
        case = random.choice(cases)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(_PATIENCE)
            os.write(write, _in_child(backends, case).encode()[:4000])
            os._exit(0)
        os.close(write)
        children.append((child, read))
    for child, read in children:
        with os.fdopen(read) as pipe:
            told = pipe.read()
        status = os.waitpid(child, 0)[1]
        forks.right += told == _RIGHT
        if told != _RIGHT:
            forks.wrong.append(told or f"ended with status {status}")
    yield "servers"


def _in_child(backends: Backends, case: Case) -> str:
    """Return `_RIGHT` if the scores are right, and otherwise what happened."""
    try:
        scores = backends.rerankers["servers"].score(case.query, case.documents)
    except BaseException as error:  # noqa: BLE001  # a child must end here
        return repr(error)
    distances = [abs(a - b) for a, b in zip(scores, case.scores, strict=True)]
    return _RIGHT if max(distances) <= TOLERANCE else f"scores are off by {distances}"
