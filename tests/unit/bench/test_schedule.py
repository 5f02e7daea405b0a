"""When requests are sent: the arrivals of an open loop, and the limits of a test."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.bench.schedule import Schedule, poisson_arrivals

rates = st.floats(0.1, 500)
durations = st.floats(0.1, 20)
seeds = st.integers(0, 1000)


def schedule(**given: Any) -> Schedule:
    names = ("concurrency", "rate", "seconds", "requests")
    arguments: dict[str, Any] = dict.fromkeys(names) | {"seed": 0}
    return Schedule.of(**arguments | given)


@given(rates, durations, seeds)
def test_as_many_arrive_as_expected_within_the_duration(
    rate: float, seconds: float, seed: int
) -> None:
    arrivals = poisson_arrivals(rate, seconds, seed)
    assert len(arrivals) == max(1, round(rate * seconds))
    assert arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] <= arrivals[-1] <= seconds


@given(rates, durations, seeds)
def test_the_seed_alone_decides(rate: float, seconds: float, seed: int) -> None:
    assert poisson_arrivals(rate, seconds, seed) == poisson_arrivals(rate, seconds, seed)
    assert poisson_arrivals(rate, seconds, seed) != poisson_arrivals(rate, seconds, seed + 1)


def test_the_gaps_are_those_of_a_poisson_process() -> None:
    """They are exponentially distributed: the deviation equals the mean, and 37 % are longer."""
    gaps = [b - a for a, b in pairwise(poisson_arrivals(100, 200, seed=0))]
    mean = statistics.fmean(gaps)
    assert mean == pytest.approx(0.01, rel=0.01)
    assert statistics.pstdev(gaps) == pytest.approx(mean, rel=0.03)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.01)


def test_defaults() -> None:
    assert schedule() == Schedule(16, None, 60.0, None, 0)
    assert schedule(requests=5) == Schedule(16, None, None, 5, 0)
    assert schedule(rate=2.5) == Schedule(None, 2.5, 60.0, None, 0)


@pytest.mark.parametrize(
    ("limits", "number", "last"),
    [
        ({"seconds": 3.0}, 30, 3.0),
        ({"requests": 12}, 12, 1.2),
        ({"seconds": 1.0, "requests": 12}, 10, 1.0),
        ({"seconds": 5.0, "requests": 12}, 12, 1.2),
    ],
)
def test_an_open_loop_ends_at_the_first_limit(
    limits: dict[str, Any], number: int, last: float
) -> None:
    arrivals = schedule(rate=10, **limits).arrivals()
    assert len(arrivals) == number
    assert arrivals[-1] <= last


def test_a_closed_loop_ends_at_the_first_limit() -> None:
    both = schedule(requests=3, seconds=2.0)
    assert both.allows(2, 1.9)
    assert not both.allows(3, 1.9)
    assert not both.allows(2, 2.0)
    assert schedule(requests=3).allows(2, 1e9)
    assert schedule().allows(10**9, 59.9)


def test_the_warm_up_is_as_wide_as_the_load() -> None:
    assert schedule(concurrency=40).warm_up_requests == 40
    assert schedule(rate=0.3).warm_up_requests == 1
    assert schedule(rate=7.2).warm_up_requests == 8
    assert schedule(rate=500.0).warm_up_requests == 16


@pytest.mark.parametrize("name", ["concurrency", "requests"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_counts_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name}={value!r}: give a whole number of at least 1"):
        schedule(**{name: value})


@pytest.mark.parametrize("name", ["rate", "seconds"])
@pytest.mark.parametrize("value", [0, -0.5, float("nan"), float("inf"), True, "4"])
def test_rate_and_seconds_are_above_0(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name}={value!r}: give a number above 0"):
        schedule(**{name: value})


def test_a_loop_is_either_closed_or_open() -> None:
    with pytest.raises(InputError, match="concurrency=4 and rate=2 exclude each other"):
        schedule(concurrency=4, rate=2)
