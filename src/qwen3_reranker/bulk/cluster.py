"""Run a job on a Ray cluster: one actor per engine, and partitions that outlive their actor."""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from qwen3_reranker.bulk.job import Job
from qwen3_reranker.bulk.local import PARTITIONS_PER_ENGINE
from qwen3_reranker.bulk.output import Counts
from qwen3_reranker.bulk.partitions import Partition
from qwen3_reranker.bulk.resources import Resources
from qwen3_reranker.bulk.scoring import OnProgress
from qwen3_reranker.errors import EngineError, InputError, MissingDependencyError
from qwen3_reranker.reranker import Reranker

__all__ = ["check_sendable", "connected", "require_ray", "run_on_cluster"]

# An actor that dies takes its partitions with it. They are given to another one, unless that has
# happened so often that they are probably the cause.
_DEATHS_PER_PARTITION = 3
_DEATHS_AT_START = 10


class _Worker:
    """The actor: a reranker that works on partitions."""

    def __init__(self, job: Job, options: Mapping[str, Any]) -> None:
        self._job = job
        self._options = options

    def start(self) -> None:
        # Not in the constructor, whose errors Ray reports as the actor's death.
        self._reranker = Reranker(**self._options)

    def run(self, partition: Partition) -> Counts:
        return self._job.run(self._reranker, partition)

    def close(self) -> None:
        self._reranker.close()


def require_ray() -> None:
    """
    Check that Ray can be used.

    Raises:
        MissingDependencyError: It is not installed.
    """
    if find_spec("ray") is None:
        raise MissingDependencyError(
            "a Ray cluster needs Ray: pip install 'qwen3-reranker[ray]', here and on its machines"
        )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """
    Connect to a Ray cluster, and disconnect at the end, unless the program is connected already.

    Args:
        address: The address of the cluster's head, "auto" for the cluster that this machine is part
            of, or "local" to start one on this machine.

    Raises:
        InputError: There is no cluster at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _require_listener(address)
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"ray={address!r}: there is no Ray cluster ({error}): start one with "
            "`ray start --head`, or give 'local'"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise an OSError or a ValueError at once; Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "://" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def check_sendable(options: Mapping[str, Any]) -> None:
    """
    Check that the arguments of a reranker can be sent to another machine.

    Raises:
        InputError: One cannot, such as `http_client`.
    """
    from ray import cloudpickle

    for name, value in options.items():
        try:
            cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise InputError(
                f"{name}= cannot be sent to the machines of a cluster ({error}): leave it out"
            ) from error


def run_on_cluster(
    job: Job,
    partitions: Sequence[Partition],
    options: Mapping[str, Any],
    resources: Resources,
    on_progress: OnProgress,
) -> None:
    """
    Run a job with one reranker per actor.

    Partitions of an actor that dies, or whose machine does, are given to another one, and the actor
    is replaced as soon as the cluster has room.

    Args:
        job: What to do.
        partitions: The partitions, in the order in which they are begun.
        options: The arguments of the rerankers.
        resources: The actors.
        on_progress: Called with the rows and documents of each partition that is done.

    Raises:
        EngineError: The actors of a partition died repeatedly.
        OSError: A file cannot be read or written.
        RerankerError: Scoring failed. The other partitions are abandoned.
    """
    pool = _Pool(job, options, resources)
    try:
        pool.start(min(resources.concurrency, len(partitions)))
        for partition, counts in pool.run(partitions):
            on_progress(partition.range.rows, counts.documents)
        pool.close()
    finally:
        pool.kill()


class _Pool:
    def __init__(self, job: Job, options: Mapping[str, Any], resources: Resources) -> None:
        import ray

        self._ray: Any = ray  # its types do not fit classes that are decorated at run time
        self._arguments = ray.put(job), ray.put(dict(options))  # stored once, not per actor
        self._class = self._ray.remote(
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus,
            max_concurrency=PARTITIONS_PER_ENGINE,
        )(_Worker)
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, Partition]] = {}
        self._actors: list[Any] = []
        self._todo: deque[Partition] = deque()
        self._deaths: Counter[Partition] = Counter()
        self._deaths_at_start = 0

    def start(self, count: int) -> None:
        """Request actors. They start when the cluster has room for them."""
        for _ in range(count):
            actor = self._class.remote(*self._arguments)
            self._actors.append(actor)
            self._starting[actor.start.remote()] = actor

    def run(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Counts]]:
        """Yield each partition when it is done, with what it contained."""
        self._todo.extend(partitions)
        while self._todo or self._running:
            [reference], _ = self._ray.wait([*self._running, *self._starting])
            actor, partition = self._running.get(reference, (None, None))
            actor = actor or self._starting[reference]
            try:
                counts = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                self._bury(actor, error)
                continue
            self._running.pop(reference, None)
            self._starting.pop(reference, None)
            self._feed(actor)
            if partition is not None:
                yield partition, counts

    def close(self) -> None:
        """Let the actors that have started close their rerankers."""
        ready = [actor for actor in self._actors if actor not in self._starting.values()]
        self._ray.wait([actor.close.remote() for actor in ready], num_returns=len(ready))

    def kill(self) -> None:
        """Kill all actors. The engine of an actor ends with it."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _feed(self, actor: Any) -> None:
        held = sum(holder is actor for holder, _ in self._running.values())
        while self._todo and held < PARTITIONS_PER_ENGINE:
            partition = self._todo.popleft()
            self._running[actor.run.remote(partition)] = actor, partition
            held += 1

    def _bury(self, actor: Any, error: Exception) -> None:
        """Replace an actor that died, and put its partitions back."""
        lost = {ref: part for ref, (holder, part) in self._running.items() if holder is actor}
        self._actors.remove(actor)
        self._starting = {ref: other for ref, other in self._starting.items() if other is not actor}
        for reference, partition in lost.items():
            del self._running[reference]
            self._deaths[partition] += 1
        self._deaths_at_start = 0 if lost else self._deaths_at_start + 1
        too_often = [part for part in lost.values() if self._deaths[part] >= _DEATHS_PER_PARTITION]
        if too_often or self._deaths_at_start >= _DEATHS_AT_START:
            doing = f"working on {too_often[0].name}" if too_often else "starting"
            raise EngineError(f"Ray's actors died repeatedly while {doing}, at last: {error}")
        self._todo.extendleft(sorted(lost.values(), reverse=True))
        self.start(1)
