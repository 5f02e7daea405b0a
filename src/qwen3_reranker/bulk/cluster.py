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
from qwen3_reranker.bulk.scoring import OnProgress, RowScorer
from qwen3_reranker.errors import EngineError, InputError, MissingDependencyError
from qwen3_reranker.reranker import Reranker

__all__ = ["check_options", "connected", "require_ray", "run_on_cluster"]

_logger = logging.getLogger(__name__)

# An actor that dies takes its partitions with it. They are given to another one, unless that has
# happened so often that they are probably the cause.
_DEATHS_PER_PARTITION = 3
_DEATHS_AT_START = 10
# The time without news from any actor after which the log says that some wait for room, in seconds.
_SILENCE = 30.0


class _Worker:
    """The actor: a reranker that works on partitions."""

    def __init__(self, job: Job, options: Mapping[str, Any]) -> None:
        self._job = job
        self._options = options

    def start(self) -> None:
        # Not in the constructor, whose errors Ray reports as the actor's death.
        self._scorer = RowScorer(Reranker(**self._options))

    def run(self, partition: Partition) -> Counts:
        try:
            return self._job.run(self._scorer, partition)
        except FileNotFoundError as error:
            raise InputError(
                f"{error.filename} cannot be opened on {socket.gethostname()}, a machine of the "
                f"cluster ({error.strerror}): the input and the output must be on a file system "
                "that all of its machines share"
            ) from None

    def close(self) -> None:
        self._scorer.close()


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
        InputError: There is no cluster at the address, or it has another version of Ray or Python.
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
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"ray={address!r}: the cluster cannot be used ({reason}): its machines and this one "
            "need the same versions of Ray and Python"
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


def check_options(options: Mapping[str, Any]) -> None:
    """
    Check that a reranker on another machine can have the given arguments.

    Raises:
        InputError: One names devices, or cannot be sent to another machine, such as `http_client`.
    """
    from ray import cloudpickle

    several = (options.get("engine_args") or {}).get("data_parallel_size") or 1
    if options.get("devices") is not None or several != 1:
        raise InputError(
            "devices= and data_parallel_size cannot be used on a cluster, because all engines of a "
            "machine would get the same devices: give concurrency= the number of engines instead"
        )
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
        partitions: The partitions, in the order in which they are started.
        options: The arguments of the rerankers.
        resources: The actors.
        on_progress: Called with the rows and documents of each partition that is done.

    Raises:
        EngineError: The actors of a partition died repeatedly.
        InputError: A file does not exist on one of the machines.
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
        # Each actor with a reference that is ready when Ray has found room for it.
        self._actors: dict[Any, Any] = {}
        # Each actor that will be given partitions when a reference of its own is ready.
        self._joining: dict[Any, Any] = {}
        self._started: set[Any] = set()
        self._running: dict[Any, tuple[Any, Partition]] = {}
        self._todo: deque[Partition] = deque()
        self._deaths: Counter[Partition] = Counter()
        self._deaths_at_start = 0
        self._without_room = 0

    def start(self, count: int) -> None:
        """Request actors. They start when the cluster has room for them."""
        for _ in range(count):
            actor = self._class.remote(*self._arguments)
            self._actors[actor] = actor.__ray_ready__.remote()
            self._joining[actor.start.remote()] = actor

    def run(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Counts]]:
        """Yield each partition when it is done, with what it contained."""
        self._todo.extend(partitions)
        while self._todo or self._running:
            awaited = [*self._running, *self._joining]
            ready, _ = self._ray.wait(awaited, timeout=_SILENCE)
            if not ready:
                self._report_waiting()
                continue
            [reference] = ready
            actor, partition = self._running.get(reference, (None, None))
            actor = actor or self._joining[reference]
            try:
                counts = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                self._replace(actor, error)
                continue
            self._running.pop(reference, None)
            self._joining.pop(reference, None)
            self._started.add(actor)
            self._assign(actor)
            if partition is not None:
                yield partition, counts

    def close(self) -> None:
        """Let the actors that have started close their rerankers."""
        closing = [actor.close.remote() for actor in self._started]
        self._ray.wait(closing, num_returns=len(closing))

    def kill(self) -> None:
        """Kill all actors. The engine of an actor ends with it."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _report_waiting(self) -> None:
        """Log how many actors wait for room on the cluster, when their number has changed."""
        created = list(self._actors.values())
        _, waiting = self._ray.wait(created, num_returns=len(created), timeout=0)
        if len(waiting) != self._without_room and waiting:
            _logger.warning(
                "waiting for room for %d of %d actors on the Ray cluster, which other programs "
                "may be using (`ray status` shows it)",
                len(waiting),
                len(created),
            )
        self._without_room = len(waiting)

    def _assign(self, actor: Any) -> None:
        """Give an actor as many partitions as it can work on."""
        assigned = sum(worker is actor for worker, _ in self._running.values())
        while self._todo and assigned < PARTITIONS_PER_ENGINE:
            partition = self._todo.popleft()
            self._running[actor.run.remote(partition)] = actor, partition
            assigned += 1

    def _replace(self, actor: Any, error: Exception) -> None:
        """Replace an actor that died or cannot be reached, and put its partitions back."""
        lost = {ref: part for ref, (worker, part) in self._running.items() if worker is actor}
        # One that cannot be reached may still live, and would keep its CPUs and GPUs.
        self._ray.kill(actor)
        del self._actors[actor]
        self._joining = {ref: other for ref, other in self._joining.items() if other is not actor}
        for reference, partition in lost.items():
            del self._running[reference]
            self._deaths[partition] += 1
        self._deaths_at_start = 0 if actor in self._started else self._deaths_at_start + 1
        self._started.discard(actor)
        too_often = [part for part in lost.values() if self._deaths[part] >= _DEATHS_PER_PARTITION]
        if too_often or self._deaths_at_start >= _DEATHS_AT_START:
            doing = f"working on {_described(too_often[0])}" if too_often else "starting"
            raise EngineError(f"Ray's actors died repeatedly while {doing}, at last: {error}")
        self._todo.extendleft(sorted(lost.values(), reverse=True))
        self.start(1)
        # The new actor may wait for room forever. An idle one may have died with the same machine,
        # so it has to answer first: its death would be counted against what it is given.
        for idle in self._started.difference(worker for worker, _ in self._running.values()):
            self._joining[idle.__ray_ready__.remote()] = idle


def _described(partition: Partition) -> str:
    first, rows = partition.range[:2]
    return f"rows {first + 1} to {first + rows} of {partition.file}"
