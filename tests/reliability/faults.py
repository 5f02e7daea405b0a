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
from itertools import cycle
from pathlib import Path

import psutil

from qwen3_reranker.errors import RerankerError

from reliability import faulty_proxy
from reliability.backends import ENGINE_TIMEOUT, GATEWAY_TIMEOUT, SERVER_TIMEOUT, Backends
from reliability.cases import TOLERANCE, Case
from reliability.faulty_proxy import FaultyProxy
from support.engine_processes import engine_of
from support.servers.processes import Server

__all__ = ["Effect", "Fault", "Forks", "all_faults"]

# The seconds after which a forked child is given up, and the number of children.
_PATIENCE, _CHILDREN = 120, 3
_RIGHT = "right"
_SPOILED_AT_LEAST = 3
_DAY = 86_400.0
# Documents that need memory which an engine does not have yet.
_LARGE = [f"{number} " + "document " * 1_000 for number in range(256)]


@dataclass(frozen=True)
class Effect:
    """
    What a fault does.

    Attributes:
        target: What has to recover: the name of a reranker, or the URL of a server.
        met: Returns how often the fault has been met since it began, such as by a call that failed.
    """

    target: str
    met: Callable[[], int]


@dataclass(frozen=True)
class Fault:
    """
    A fault.

    Attributes:
        name: Its name.
        inject: Begins it, yields its effect, and ends it.
        units: How long it lasts, as a multiple of the unit of the test.
        seconds: How long it lasts at least.
        least: How often it must be met.
        fails: The names of the rerankers whose calls may fail because of it.
    """

    name: str
    inject: Callable[[], AbstractContextManager[Effect]]
    units: float = 1
    seconds: float = 0
    least: int = 1
    fails: frozenset[str] = frozenset()


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
    """
    Return the faults of one round of the schedule, in order.

    What can hit one of several servers hits another one in each round. A hung process is stopped
    for so long that calls time out.
    """
    proxies, servers, gateway = backends.proxies, backends.servers, backends.gateway
    wire = [
        Fault(
            f"{name} answers",
            _in_turn([partial(_spoiled, [proxy], name) for proxy in proxies], place),
            least=_SPOILED_AT_LEAST,
        )
        for place, name in enumerate(faulty_proxy.FAULTS)
    ]
    remote, embedded = frozenset({"servers", "gateway"}), frozenset({"engine", "cached"})
    everywhere = [
        Fault(
            f"{name} answers of all servers",
            partial(_spoiled, proxies, name),
            fails=remote,
        )
        for name in ("reset", "storm")
    ]
    killed = [
        Fault("a server is killed", partial(_killed, backends, server, proxy.url), 0.5)
        for server, proxy in zip(servers, proxies, strict=True)
    ]
    hung = [
        partial(_hung, backends, server, proxy.url)
        for server, proxy in zip(servers, proxies, strict=True)
    ]
    only_gateway = frozenset({"gateway"})
    return [
        *wire,
        *everywhere,
        *killed,
        Fault("a server hangs", _in_turn(hung), seconds=_hang(SERVER_TIMEOUT)),
        Fault(
            "the gateway is killed",
            partial(_killed, backends, gateway, "gateway"),
            0.5,
            fails=only_gateway,
        ),
        Fault(
            "the gateway hangs",
            partial(_hung, backends, gateway, "gateway"),
            seconds=_hang(GATEWAY_TIMEOUT),
            fails=only_gateway,
        ),
        Fault("the engine is killed", partial(_engine_killed, backends), 0, fails=embedded),
        Fault(
            "the engine hangs",
            partial(_engine_hung, backends),
            seconds=_hang(ENGINE_TIMEOUT),
            fails=embedded,
        ),
        Fault("the engine has no memory", partial(_engine_starved, backends), 0, fails=embedded),
        Fault("the cache's disk is full", partial(_disk_full, backends)),
        Fault("the clock is set a day ahead", partial(_clock_set, _DAY)),
        Fault("the clock is set a day back", partial(_clock_set, -_DAY)),
        Fault("the process forks", partial(_forked, backends, cases, forks), 0, least=_CHILDREN),
    ]


def _hang(timeout: float) -> float:
    """Return the seconds for which a process is stopped, so that its timeout passes."""
    return 1.25 * timeout + 5


def _in_turn(
    injections: Sequence[Callable[[], AbstractContextManager[Effect]]], first: int = 0
) -> Callable[[], AbstractContextManager[Effect]]:
    """Return an injection that is each of several in turn."""
    first %= len(injections)
    rounds = cycle([*injections[first:], *injections[:first]])

    def inject() -> AbstractContextManager[Effect]:
        return next(rounds)()

    return inject


def _since(count: Callable[[], int]) -> Callable[[], int]:
    """Return a function that returns by how much a count has grown since now."""
    before = count()
    return lambda: count() - before


@contextmanager
def _spoiled(proxies: Sequence[FaultyProxy], fault: str) -> Iterator[Effect]:
    """Spoil the answers of servers."""
    met = [_since(partial(proxy.met.__getitem__, fault)) for proxy in proxies]
    target = "servers" if len(proxies) > 1 else proxies[0].url
    for proxy in proxies:
        proxy.fault = fault
    try:
        yield Effect(target, lambda: min(count() for count in met))
    finally:
        for proxy in proxies:
            proxy.fault = None


@contextmanager
def _killed(backends: Backends, server: Server, name: str) -> Iterator[Effect]:
    effect = _failing(backends, name)
    server.kill()
    yield effect
    server.start()  # again, on the same port


@contextmanager
def _hung(backends: Backends, server: Server, name: str) -> Iterator[Effect]:
    effect = _failing(backends, name)
    with _suspended(server.processes()):
        yield effect


def _failing(backends: Backends, name: str) -> Effect:
    """Return the effect on a server or the gateway: attempts to use it fail."""
    return Effect(name, _since(partial(backends.failures, name)))


@contextmanager
def _engine_killed(backends: Backends) -> Iterator[Effect]:
    effect = _engine_failing(backends)
    if (process := backends.engine_process()) is not None:
        process.kill()
    yield effect


@contextmanager
def _engine_hung(backends: Backends) -> Iterator[Effect]:
    effect = _engine_failing(backends)
    process = backends.engine_process()
    with _suspended([] if process is None else [process]):
        yield effect


def _engine_failing(backends: Backends) -> Effect:
    """Return the effect on the engine: its process ends, so that only another one can answer."""
    engine = engine_of(backends.rerankers["engine"])
    return Effect("engine", _since(lambda: engine.failures.total))


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
def _engine_starved(backends: Backends) -> Iterator[Effect]:
    """Let the engine's process have no more memory than it has, and ask for what needs more."""
    effect = _engine_failing(backends)
    process = backends.engine_process()
    if process is None:
        yield effect
        return
    limit = process.memory_info().vms
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        with contextlib.suppress(RerankerError):
            backends.rerankers["engine"].score("Which document is it?", _LARGE)
        yield effect
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, unlimited)


@contextmanager
def _disk_full(backends: Backends) -> Iterator[Effect]:
    journal = backends.journal
    effect = Effect("cached", _since(lambda: journal.failures))
    journal.file = Path("/dev/full")  # which says "No space left on device"
    try:
        yield effect
    finally:
        journal.file = backends.file


@contextmanager
def _clock_set(seconds: float) -> Iterator[Effect]:
    """Step the wall clock of this process, as far as Python code reads it."""
    real, reads = time.time, 0

    def stepped() -> float:
        nonlocal reads
        reads += 1
        return real() + seconds

    holders = [m for m in list(sys.modules.values()) if vars(m).get("time") is real]
    for module in holders:
        vars(module)["time"] = stepped
    time.time = stepped
    try:
        yield Effect("servers", lambda: reads)
    finally:
        time.time = real
        for module in holders:
            vars(module)["time"] = real


@contextmanager
def _forked(backends: Backends, cases: Sequence[Case], forks: Forks) -> Iterator[Effect]:
    """Fork, and have the children call the servers with the reranker that they inherit."""
    effect = Effect("servers", _since(lambda: forks.right + len(forks.wrong)))
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
    yield effect


def _in_child(backends: Backends, case: Case) -> str:
    """Return `_RIGHT` if the scores are right, and otherwise what happened."""
    try:
        scores = backends.rerankers["servers"].score(case.query, case.documents)
    except BaseException as error:  # noqa: BLE001  # a child must end here
        return repr(error)
    distances = [abs(a - b) for a, b in zip(scores, case.scores, strict=True)]
    return _RIGHT if max(distances) <= TOLERANCE else f"scores are off by {distances}"
