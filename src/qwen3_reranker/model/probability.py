"""Convert between probabilities and log-odds."""

from __future__ import annotations

import math

__all__ = ["LOG_ODDS_BOUND", "is_probability", "log_odds_distance", "logit", "sigmoid"]

LOG_ODDS_BOUND = 8.0
"""
Up to this size, in either direction, log-odds can be compared.

Near 1, the last digit of a probability in float32 changes log-odds of 8 by 0.0002 and those of 12
by 0.01.
"""

# How far outside of [0, 1] the rounding of its last digit can put a probability.
_ROUNDING = 1e-6

# Probabilities nearer to 0 or 1 than this count as this near, which bounds log-odds at ±27.6.
_NEAREST = 1e-12


def sigmoid(x: float) -> float:
    """
    Return the probability that belongs to log-odds.

    Args:
        x: Log-odds of any size; nothing overflows.

    Returns:
        A probability in [0, 1].
    """
    odds = math.exp(-abs(x))
    return (1 if x >= 0 else odds) / (1 + odds)


def logit(p: float) -> float:
    """
    Return the log-odds of a probability.

    Args:
        p: A probability. Values below 1e-12 or above 1 - 1e-12 are moved to these bounds.

    Returns:
        Log-odds, between -27.6 and 27.6.
    """
    p = min(max(p, _NEAREST), 1 - _NEAREST)
    return math.log(p / (1 - p))


def log_odds_distance(first: float, second: float) -> float:
    """Return the difference between two log-odds, in which those beyond ±8 count as ±8."""
    a, b = (min(max(x, -LOG_ODDS_BOUND), LOG_ODDS_BOUND) for x in (first, second))
    return abs(a - b)


def is_probability(x: float) -> bool:
    """Return whether a number is in [0, 1], or outside by no more than rounding explains."""
    return -_ROUNDING <= x <= 1 + _ROUNDING
