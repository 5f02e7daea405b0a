"""Say how far a difference between rankings could be chance: intervals and a paired test."""

from __future__ import annotations

import numpy as np

from qwen3_reranker.evaluation.metrics import Floats

__all__ = ["ROUNDS", "bootstrap_interval", "randomization_test"]

ROUNDS = 10_000
"""The number of random samples. With it, a p-value near 0.05 is within 0.005."""

_CHUNK = 1_000_000  # random numbers that are held in memory at a time
_EXACT = 13  # with at most so many differences, all signs are tried: 2 ** 13 = 8192


def bootstrap_interval(values: Floats, seed: int = 0) -> tuple[float, float]:
    """
    Return the 95 % confidence interval of a mean, by the percentile bootstrap over queries.

    Args:
        values: One value per query, at least one.
        seed: Seeds the random samples. Equal arguments give equal results.
    """
    rng = np.random.default_rng(seed)
    count = len(values)
    means = np.empty(ROUNDS)
    step = max(1, _CHUNK // count)
    for start in range(0, ROUNDS, step):
        rows = min(step, ROUNDS - start)
        means[start : start + rows] = values[rng.integers(0, count, (rows, count))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def randomization_test(first: Floats, second: Floats, seed: int = 0) -> float:
    """
    Return the two-sided p-value of the difference of two means, by a paired randomization test.

    It is the probability of a difference at least as large if it were a matter of chance which of
    a query's two values belongs to which ranking. With few queries that differ, all possibilities
    are counted; otherwise 10,000 random ones and the observed one.

    Args:
        first: One value per query.
        second: The values of the same queries, in the same order.
        seed: Seeds the random samples. Equal arguments give equal results.
    """
    differences = second - first
    differences = differences[differences != 0]
    count = len(differences)
    if count == 0:
        return 1.0
    # Sums of equal differences may differ in their last digits.
    observed = abs(differences.sum()) - 1e-9
    if count <= _EXACT:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        sums = (1 - 2 * bits) @ differences
        return float((np.abs(sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    reached = 1
    step = max(1, _CHUNK // count)
    for start in range(0, ROUNDS, step):
        rows = min(step, ROUNDS - start)
        signs = 1 - 2 * rng.integers(0, 2, (rows, count), dtype=np.int8)
        reached += int((np.abs(signs @ differences) >= observed).sum())
    return reached / (ROUNDS + 1)
