"""When the requests of a load test are sent."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from qwen3_reranker.errors import InputError

__all__ = ["Schedule", "poisson_arrivals"]

_DEFAULT_CONCURRENCY = 16
_DEFAULT_SECONDS = 60.0
# A warm-up of an open loop sends one second's worth of requests at once, up to this number.
_MAX_WARM_UP = 16


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    How a load test sends requests, and when it stops sending.

    Attributes:
        concurrency: Closed loop: the number of requests in flight, each of which is followed by
            the next as soon as it ends. None in an open loop.
        rate: Open loop: the mean number of requests per second, which arrive as a Poisson process
            no matter how many are in flight. None in a closed loop.
        seconds: How long requests are sent. None for no limit.
        requests: How many requests are sent. None for no limit.
        seed: The seed of the arrivals in an open loop.
    """

    concurrency: int | None
    rate: float | None
    seconds: float | None
    requests: int | None
    seed: int

    @classmethod
    def of(
        cls,
        *,
        concurrency: int | None,
        rate: float | None,
        seconds: float | None,
        requests: int | None,
        seed: int,
    ) -> Schedule:
        """
        Return the schedule for the arguments of `LoadTest`, with their defaults filled in.

        Raises:
            InputError: A number is out of range, or both `concurrency` and `rate` are given.
        """
        if concurrency is not None and rate is not None:
            raise InputError(
                f"concurrency={concurrency!r} and rate={rate!r} exclude each other: give "
                "concurrency for a closed loop, or rate for an open one"
            )
        require_count("concurrency", concurrency)
        require_count("requests", requests)
        _require_positive("rate", rate)
        _require_positive("seconds", seconds)
        if rate is None and concurrency is None:
            concurrency = _DEFAULT_CONCURRENCY
        if seconds is None and requests is None:
            seconds = _DEFAULT_SECONDS
        return cls(concurrency, rate, seconds, requests, seed)

    @property
    def warm_up_requests(self) -> int:
        """The number of requests that are sent at once before the measurement."""
        if self.rate is None:
            return self.concurrency or 1
        return min(math.ceil(self.rate), _MAX_WARM_UP)

    def allows(self, sent: int, elapsed: float) -> bool:
        """
        Return whether another request is to be sent.

        Args:
            sent: The number of requests that were sent.
            elapsed: The seconds since the first.
        """
        return (self.requests is None or sent < self.requests) and (
            self.seconds is None or elapsed < self.seconds
        )

    def arrivals(self) -> list[float]:
        """Return the planned times of an open loop, in seconds since its start."""
        assert self.rate is not None
        seconds = math.inf if self.requests is None else self.requests / self.rate
        return poisson_arrivals(self.rate, min(seconds, self.seconds or math.inf), self.seed)


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """
    Return the arrivals of a Poisson process, of which there are as many as expected.

    In a short test their number would otherwise differ from `rate` times `seconds` by chance.
    Given their number, the arrivals of a Poisson process are uniformly distributed.

    Args:
        rate: The mean number of arrivals per second.
        seconds: The duration.
        seed: Equal seeds give equal times.

    Returns:
        At least one time, in seconds since the start, in ascending order.
    """
    generator = random.Random(seed)  # noqa: S311  # not for cryptography
    arrivals = max(1, round(rate * seconds))
    return sorted(generator.uniform(0, seconds) for _ in range(arrivals))


def require_count(name: str, value: object) -> None:
    """
    Check an argument that counts something.

    Raises:
        InputError: It is neither None nor an int of at least 1.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{name}={value!r}: give a whole number of at least 1")


def _require_positive(name: str, value: object) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:  # type: ignore[operator]  # NaN is neither
        raise InputError(f"{name}={value!r}: give a number above 0")
