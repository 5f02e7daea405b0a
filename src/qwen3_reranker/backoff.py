"""How long to leave something alone that keeps failing."""

from __future__ import annotations

__all__ = ["backoff"]

# 2.0**1024 would overflow a float.
_MOST_DOUBLINGS = 30


def backoff(failures: int, *, first: float, longest: float) -> float:
    """
    Return a delay that doubles with every failure in a row, in seconds.

    Args:
        failures: The number of failures in a row, at least 1.
        first: The delay after the first one.
        longest: The longest delay.
    """
    return float(min(longest, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)))
