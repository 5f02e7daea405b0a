"""How many engines a cluster runs, and which share of its CPUs and GPUs each of them gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.errors import InputError

__all__ = ["Resources", "cluster_resources", "engine_cpus"]


@dataclass(frozen=True, slots=True)
class Resources:
    """
    The workers of a run.

    Attributes:
        concurrency: The number of workers.
        num_cpus: The CPUs that Ray reserves for each. Ray sets OMP_NUM_THREADS accordingly, which
            is the number of threads in which an engine on the CPU computes.
        num_gpus: The GPUs that Ray reserves for each.
    """

    concurrency: int
    num_cpus: float
    num_gpus: float


def cluster_resources(
    concurrency: int | None, num_gpus: float | None, *, embedded: bool, spare_cpus: int
) -> Resources:
    """
    Return the workers for the cluster that Ray is connected to.

    Args:
        concurrency: The number of workers, at least 1. None fills the cluster: as many as its GPUs
            allow, or one per machine.
        num_gpus: The number of GPUs of each worker, at least 0. None is 1 for an engine, if the
            cluster has any.
        embedded: Whether a worker runs an engine, rather than a client of a server.
        spare_cpus: The number of CPUs to leave to other work.

    Raises:
        InputError: An argument is out of its range, or no machine has room for a worker.
    """
    import ray

    if concurrency is not None and concurrency < 1:
        raise InputError(f"concurrency={concurrency}: give a number of at least 1")
    if num_gpus is not None and not num_gpus >= 0:
        raise InputError(f"num_gpus={num_gpus}: give a number of at least 0")
    if num_gpus is not None and num_gpus > 1 and num_gpus % 1:
        raise InputError(f"num_gpus={num_gpus}: give a whole number, or one below 1")
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [machine["CPU"] for machine in machines if machine.get("CPU")]
    gpus = [machine.get("GPU", 0.0) for machine in machines]
    if num_gpus is None:
        num_gpus = 1 if embedded and any(gpus) else 0
    if concurrency is None:
        fitting = sum(_fitting(count, num_gpus) for count in gpus) if num_gpus else len(cpus)
        concurrency = max(1, fitting)
    share = engine_cpus(cpus, concurrency, spare_cpus) if embedded and not num_gpus else 1
    _require_room(machines, share, num_gpus)
    return Resources(concurrency, share, num_gpus)


def engine_cpus(cpus: Sequence[float], engines: int, spare: int = 0) -> float:
    """
    Return the largest number of CPUs that each engine can have without sharing them.

    Args:
        cpus: The number of CPUs of each machine.
        engines: The number of engines.
        spare: The number of CPUs to leave to other work.

    Returns:
        A whole number, because Ray requires that above 1; or a fraction if there are more engines
        than CPUs.
    """
    left = sum(cpus) - spare
    for share in range(int(max(cpus, default=1)), 0, -1):
        fitting = sum(int(cpu // share) for cpu in cpus)
        if fitting >= engines and share * engines <= left:
            return share
    return max(0.01, int(100 * left / engines) / 100) if left > 0 else 0.5 / engines


def _fitting(gpus: float, share: float) -> int:
    """Return how many workers the GPUs of a machine are enough for. No share spans two GPUs."""
    if share >= 1:
        return int(gpus // share)
    return int(gpus) * int(1 / share + 1e-9)  # in floats, 1 / (1 / 49) is less than 49


def _require_room(machines: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> None:
    """Raise an error if no machine has so many CPUs and GPUs: Ray would wait for one forever."""
    sizes = {(machine.get("CPU", 0.0), machine.get("GPU", 0.0)) for machine in machines}
    if any(has_cpus >= cpus and has_gpus >= gpus for has_cpus, has_gpus in sizes):
        return
    have = "; ".join(f"{has_cpus:g} and {has_gpus:g}" for has_cpus, has_gpus in sorted(sizes))
    raise InputError(
        f"each worker needs {cpus:g} CPUs and {gpus:g} GPUs, and no machine of the cluster has so "
        f"many (they have {have}): give num_gpus= a smaller number, or add such a machine first"
    )
