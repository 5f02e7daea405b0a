"""The requests of a load test, and the percentiles of their latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Sample", "percentile"]


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One request.

    Attributes:
        start: When it was sent, in seconds since the start of the measurement. In an open loop,
            when it was planned to be sent.
        latency: The seconds from then until its result or its failure.
        documents: The number of its documents.
        tokens: The tokens of its prompts. None if they are unknown.
        retries: The attempts that followed a failed one, before it succeeded.
        error: The type of the error if it failed; None otherwise.
    """

    start: float
    latency: float
    documents: int
    tokens: int | None = None
    retries: int = 0
    error: str | None = None


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """
    Return a percentile by linear interpolation, as `numpy.percentile()` does.

    Args:
        ordered: The values in ascending order.
        percent: The percentile, in [0, 100].

    Returns:
        The percentile; None without values.
    """
    if not ordered:
        return None
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
