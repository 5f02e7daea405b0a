"""The CPUs of each engine: as many as there are, and never more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.bulk.resources import Resources, cluster_resources, engine_cpus

ray: Any = pytest.importorskip("ray")

nodes = st.lists(st.integers(1, 64).map(float), min_size=1, max_size=6)


@given(cpus=nodes, engines=st.integers(1, 100), spare=st.integers(0, 2))
def test_engines_never_share_cpus(cpus: list[float], engines: int, spare: int) -> None:
    share = engine_cpus(cpus, engines, spare)
    assert share > 0
    if share >= 1:
        assert share == int(share)  # as Ray requires
        assert sum(cpu // share for cpu in cpus) >= engines
        assert engines * share <= sum(cpus) - spare
        larger = share + 1
        fits = sum(cpu // larger for cpu in cpus) >= engines
        assert not fits or engines * larger > sum(cpus) - spare
    elif sum(cpus) > spare:
        assert engines * share <= sum(cpus) - spare + 1e-9  # 50 * 0.56 > 28 in floats


@pytest.mark.parametrize(
    ("cpus", "engines", "spare", "share"),
    [
        ([8], 1, 0, 8),
        ([2], 2, 0, 1),
        ([2], 2, 1, 0.5),
        ([4, 2], 2, 0, 2),
        ([4, 4], 3, 0, 2),
        ([1, 2, 2], 2, 1, 2),
        ([1], 4, 0, 0.25),
    ],
)
def test_examples(cpus: list[float], engines: int, spare: int, share: float) -> None:
    assert engine_cpus(cpus, engines, spare) == share


machines = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4)


def chosen(machines: list[tuple[int, int]], **arguments: Any) -> Resources:
    """Return the workers for a cluster, given by the CPUs and GPUs of its machines."""
    nodes = [{"Alive": True, "Resources": {"CPU": cpu, "GPU": gpu}} for cpu, gpu in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 99, "GPU": 99}})
    arguments = {"concurrency": None, "num_gpus": None, "embedded": True, **arguments}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "nodes", lambda: nodes)
        return cluster_resources(**arguments, spare_cpus=0)


@given(
    machines=machines,
    concurrency=st.none() | st.integers(1, 20),
    num_gpus=st.none() | st.integers(0, 9),
    embedded=st.booleans(),
)
def test_a_worker_fits_on_a_machine_or_is_refused(
    machines: list[tuple[int, int]],
    concurrency: int | None,
    num_gpus: int | None,
    *,
    embedded: bool,
) -> None:
    try:
        resources = chosen(machines, concurrency=concurrency, num_gpus=num_gpus, embedded=embedded)
    except InputError as error:
        assert "no machine of the cluster has so many" in str(error)
        needed = num_gpus or 0
        assert not any(cpu >= 1 and gpu >= needed for cpu, gpu in machines) or num_gpus is None
    else:
        assert any(cpu >= resources.num_cpus and gpu >= resources.num_gpus for cpu, gpu in machines)


@pytest.mark.parametrize(
    ("machines", "num_gpus", "workers"),
    [([(8, 4), (8, 4)], None, 8), ([(8, 3), (8, 3)], 2, 2), ([(8, 1), (8, 0)], 0.5, 2)],
)
def test_a_worker_does_not_use_the_gpus_of_several_machines(
    machines: list[tuple[int, int]], num_gpus: float | None, workers: int
) -> None:
    assert chosen(machines, num_gpus=num_gpus).concurrency == workers


@pytest.mark.parametrize(("num_gpus", "workers"), [(0.6, 4), (0.4, 8), (0.3, 12), (0.99, 4)])
def test_a_share_of_a_gpu_is_not_put_together_from_several(num_gpus: float, workers: int) -> None:
    assert chosen([(8, 4)], num_gpus=num_gpus).concurrency == workers


@given(gpus=st.integers(1, 9), share=st.integers(1, 100))
def test_equal_shares_fill_every_gpu(gpus: int, share: int) -> None:
    assert chosen([(8, gpus)], num_gpus=1 / share).concurrency == gpus * share


def test_the_machines_are_named_if_none_has_room() -> None:
    message = r"needs 1 CPUs and 2 GPUs, .* \(they have 2 and 0; 8 and 1\): give num_gpus= a"
    with pytest.raises(InputError, match=message):
        chosen([(8, 1), (8, 1), (2, 0)], num_gpus=2)
