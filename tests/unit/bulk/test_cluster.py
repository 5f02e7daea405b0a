"""A run on a Ray cluster ends although machines are lost for good, and with them their actors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.bulk.cluster import run_on_cluster
from qwen3_reranker.bulk.output import Counts
from qwen3_reranker.bulk.partitions import Partition, Range
from qwen3_reranker.bulk.resources import Resources


class RayError(Exception):
    """An actor died."""


class RayTaskError(RayError):
    """A method raised an error."""


@dataclass(eq=False)
class Reference:
    actor: Actor
    method: str


class Actor:
    """An actor that waits for room, is on a machine, or is dead."""

    def __init__(self) -> None:
        self.machine: int | None = None
        self.dead = False

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *_: Reference(self, method))


Choose = Callable[[Sequence[Reference]], Reference]


class Cluster:
    """
    Stands for the module `ray`.

    Args:
        rooms: The number of actors for which each machine has room.
        losses: The machines that are lost, by how often a caller has waited before.
        choose: Returns which of the references that may be ready is the first.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, rooms: Sequence[int], losses: dict[int, int], choose: Choose) -> None:
        self.rooms = dict(enumerate(rooms))
        self.losses = losses
        self.choose = choose
        self.actors: list[Actor] = []
        self.waits = 0

    def put(self, value: object) -> object:
        return value

    def remote(self, **_: Any) -> Any:
        return lambda _class: SimpleNamespace(remote=self.create)

    def create(self, *_: Any) -> Actor:
        self.actors.append(actor := Actor())
        self.place()
        return actor

    def kill(self, actor: Actor) -> None:
        actor.dead = True
        self.place()

    def place(self) -> None:
        for actor in self.actors:
            for machine, room in self.rooms.items():
                there = [each for each in self.actors if each.machine == machine and not each.dead]
                if actor.machine is None and not actor.dead and len(there) < room:
                    actor.machine = machine

    def lose(self, machine: int) -> None:
        del self.rooms[machine]
        for actor in self.actors:
            actor.dead = actor.dead or actor.machine == machine

    def wait(
        self, references: Sequence[Reference], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Reference], list[Reference]]:
        if timeout is None:  # for all to close
            return [*references], []
        assert num_returns == 1
        if self.waits in self.losses:
            self.lose(self.losses[self.waits])
        self.waits += 1
        settled = [ref for ref in references if ref.actor.dead or ref.actor.machine is not None]
        assert settled, "the run would wait forever"
        ready = self.choose(settled)
        return [ready], [ref for ref in references if ref is not ready]

    def get(self, reference: Reference) -> Counts:
        if reference.actor.dead:
            raise RayError
        return Counts(1, 1, 0)


def done(cluster: Cluster, partitions: int, concurrency: int) -> list[int]:
    """Return the first row of each partition that is done, in order."""
    found: list[int] = []
    # The number of rows identifies a partition.
    parts = [Partition(0, "in.jsonl", Range(n, n)) for n in range(partitions)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", cluster)
        job: Any = None
        resources = Resources(concurrency, 1, 0)
        run_on_cluster(job, parts, {}, resources, lambda rows, _documents: found.append(rows))
    assert all(actor.dead for actor in cluster.actors)  # they were killed
    return sorted(found)


@given(st.data())
def test_a_run_ends_while_one_machine_is_left(data: st.DataObject) -> None:
    rooms = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    # A partition whose actor dies a third time would end the run.
    lost = data.draw(st.permutations(range(len(rooms))))[: min(2, len(rooms) - 1)]
    turns = data.draw(st.sets(st.integers(0, 30), min_size=len(lost), max_size=len(lost)))
    losses = dict(zip(sorted(turns), lost, strict=True))
    partitions = data.draw(st.integers(1, 20))

    def choose(settled: Sequence[Reference]) -> Reference:
        return data.draw(st.sampled_from(settled))

    cluster = Cluster(rooms, losses, choose)
    assert done(cluster, partitions, data.draw(st.integers(1, 7))) == [*range(partitions)]


def test_idle_actors_that_die_with_a_machine_are_not_counted_against_a_partition() -> None:
    """The last machine finishes what the other one, whose other actors were idle, was doing."""

    def quick_first(settled: Sequence[Reference]) -> Reference:
        """Let the partitions of the first actor take the longest."""
        return min(settled, key=lambda ref: ref.method == "run" and ref.actor is cluster.actors[0])

    actors = 20
    starts_and_quick_runs = actors + 2 * (actors - 1)
    cluster = Cluster([actors - 1, 1], {starts_and_quick_runs: 0}, quick_first)
    assert done(cluster, 2 * actors, actors) == [*range(2 * actors)]
