"""Intervals and tests: known cases, properties, and the same result every time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker.evaluation import statistics
from qwen3_reranker.evaluation.metrics import Floats
from qwen3_reranker.evaluation.statistics import (
    bootstrap_intervals,
    randomization_test,
    randomization_tests,
)


def bootstrap_interval(values: Floats) -> tuple[float, float]:
    [interval] = bootstrap_intervals(values[:, None])
    return interval


VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=20, deadline=None)
@given(VALUES)
def test_an_interval_is_around_the_mean_and_within_the_values(values: list[float]) -> None:
    low, high = bootstrap_interval(np.array(values))
    tiny = 1e-9
    assert min(values) - tiny <= low <= high <= max(values) + tiny
    assert low - tiny <= np.mean(values) <= high + tiny or len(set(values)) > 1
    assert bootstrap_interval(np.array(values)) == (low, high)


def test_an_interval_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 400)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.003)
    assert high == pytest.approx(values.mean() + error, abs=0.003)


def test_an_interval_agrees_with_scipy() -> None:
    from scipy import stats  # takes a second

    values = np.random.default_rng(2).beta(2, 5, 80)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.004)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=6), st.data())
def test_few_differences_are_counted_exactly(first: list[float], data: st.DataObject) -> None:
    draw = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=len(first), max_size=len(first))
    second = data.draw(draw)
    differences = [b - a for a, b in zip(first, second, strict=True)]
    observed = abs(sum(differences))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(differences))
    ]
    wanted = sum(value >= observed for value in sums) / len(sums)
    assert randomization_test(np.array(first), np.array(second)) == pytest.approx(wanted)


def test_many_differences_agree_with_scipy() -> None:
    from scipy import stats  # takes a second

    rng = np.random.default_rng(4)
    first = rng.random(60)
    second = np.clip(first + rng.normal(0.03, 0.1, 60), 0, 1)
    theirs = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(b - a, axis=axis),
        permutation_type="samples",
        n_resamples=9999,
        rng=np.random.default_rng(5),
    ).pvalue
    assert 0.001 < theirs < 0.2
    assert randomization_test(first, second) == pytest.approx(theirs, abs=0.01)


def test_no_difference_is_chance_and_a_large_one_is_not() -> None:
    values = np.linspace(0, 1, 50)
    assert randomization_test(values, values) == 1.0
    assert randomization_test(values, values + 0.1) == pytest.approx(1 / 10_001)
    assert randomization_test(values, values + 0.1) == randomization_test(values + 0.1, values)


def test_metrics_are_independent_of_each_other() -> None:
    """Although few queries differ by the second metric, and none by the third."""
    first, second = np.random.default_rng(7).random((2, 40, 3))
    second[6:, 1], second[:, 2] = first[6:, 1], first[:, 2]
    intervals, tests = bootstrap_intervals(first), randomization_tests(first, second)
    for column in range(3):
        assert intervals[column] == pytest.approx(bootstrap_interval(first[:, column]))
        assert tests[column] == randomization_test(first[:, column], second[:, column])
    # All 64 combinations of the signs of six differences are counted.
    assert tests[1] * 64 == round(tests[1] * 64) and tests[2] == 1.0


def test_values_that_are_equal_up_to_rounding_do_not_differ() -> None:
    first = np.linspace(0.1, 0.9, 40)
    second = first + 1e-16
    second[:3] += 0.1
    assert randomization_test(first, second) == 0.25  # 2 of 8 combinations


def test_it_does_not_depend_on_the_size_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers are drawn in parts, so that many queries need no more memory."""
    values = np.random.default_rng(6).random((2, 700))
    whole = bootstrap_interval(values[0]), randomization_test(*values)
    monkeypatch.setattr(statistics, "_CHUNK", 10_000)
    parts = bootstrap_interval(values[0]), randomization_test(*values)
    assert parts[0] == pytest.approx(whole[0], abs=0.003)
    assert parts[1] == pytest.approx(whole[1], abs=0.015)
