"""The CPUs of each engine: as many as there are, and never more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.bulk.resources import engine_cpus

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
        assert engines * share <= sum(cpus) - spare


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
