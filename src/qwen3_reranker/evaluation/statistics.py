"""Say how far a difference between rankings could be chance: intervals and a paired test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qwen3_reranker.evaluation.metrics import Floats

__all__ = [
    "ROUNDS",
    "TINY",
    "bootstrap_intervals",
    "randomization_test",
    "randomization_tests",
]

ROUNDS = 10_000
"""The number of random samples. With it, a p-value near 0.05 is within 0.005."""

TINY = 1e-9
"""A smaller difference is none: values that are equal may differ in their last digits."""

_CHUNK = 1_000_000  # random numbers that are held in memory at a time
_EXACT = 13  # with at most so many differences, all signs are tried: 2 ** 13 = 8192


def bootstrap_intervals(values: Floats, seed: int = 0) -> list[tuple[float, float]]:
    """
    Return the 95 % confidence interval of each mean, by the percentile bootstrap over queries.

    Args:
        values: A row per query, at least one, and a column per metric.
        seed: Seeds the random samples. Equal arguments give equal results.

    Returns:
        The bounds of each column's mean.
    """
    rng = np.random.default_rng(seed)
    count = len(values)
    means = []
    for rows in _chunks(count):
        chosen = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        # How often each sample has each query.
        weights = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count)
        means.append(weights @ values / count)
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def randomization_test(first: Floats, second: Floats, seed: int = 0) -> float:
    """
    Return the two-sided p-value of the difference of two means, see `randomization_tests()`.

    Args:
        first: One value per query.
        second: The values of the same queries, in the same order.
        seed: Seeds the random samples. Equal arguments give equal results.
    """
    [p] = randomization_tests(first[:, None], second[:, None], seed)
    return p


def randomization_tests(first: Floats, second: Floats, seed: int = 0) -> list[float]:
    """
    Return the two-sided p-value of each difference of means, by a paired randomization test.

    It is the probability of a difference at least as large if it were a matter of chance which of
    a query's two values belongs to which ranking. If at most 13 queries differ in a metric, all
    possibilities are counted; otherwise 10,000 random ones and the observed one. The p-value of a
    metric does not depend on the other metrics.

    Args:
        first: A row per query and a column per metric.
        second: The values of the same queries and metrics, in the same order.
        seed: Seeds the random samples. Equal arguments give equal results.

    Returns:
        The p-value of each column.
    """
    differences = second - first
    differences[np.abs(differences) < TINY] = 0
    differing = np.count_nonzero(differences, axis=0)
    sampled = differing > _EXACT
    p_values = np.empty(len(differing))
    for column in np.flatnonzero(~sampled):
        values = differences[:, column]
        p_values[column] = _exact_p_value(values[values != 0])
    if sampled.any():
        p_values[sampled] = _sampled_p_values(differences[:, sampled], seed)
    return p_values.tolist()


def _exact_p_value(differences: Floats) -> float:
    """Return the p-value of a sum of differences, from all combinations of their signs."""
    count = len(differences)
    bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    sums = (1 - 2 * bits) @ differences
    return float((np.abs(sums) >= abs(differences.sum()) - TINY).mean())


def _sampled_p_values(differences: Floats, seed: int) -> Floats:
    """Return the p-value of each column's sum, from random signs of the rows."""
    rng = np.random.default_rng(seed)
    observed = np.abs(differences.sum(axis=0)) - TINY
    reached = np.ones(differences.shape[1])
    # Signs are drawn for all rows, so that a p-value does not depend on the other columns.
    for rows in _chunks(len(differences)):
        signs = 1.0 - 2 * rng.integers(0, 2, (rows, len(differences)), dtype=np.int8)
        reached += (np.abs(signs @ differences) >= observed).sum(axis=0)
    return reached / (ROUNDS + 1)


def _chunks(count: int) -> Iterator[int]:
    """Yield the sizes of the parts in which the samples of `count` queries are drawn."""
    step = max(1, _CHUNK // count)
    for start in range(0, ROUNDS, step):
        yield min(step, ROUNDS - start)
