"""A request's attempts: on the least busy server, then on the others, then again."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from qwen3_reranker.errors import ServerUnavailableError
from qwen3_reranker.scorers.endpoint import Endpoint
from qwen3_reranker.scorers.transport import RetryableError

__all__ = ["attempt"]

T = TypeVar("T")

_backoff = wait_exponential(multiplier=0.25, max=8) + wait_random(0, 0.5)


async def attempt(
    work: Callable[[Endpoint], Awaitable[T]],
    endpoints: Sequence[Endpoint],
    *,
    retries: int,
    seconds: float,
) -> T:
    """
    Do `work` on the least busy server, and on others or again where it fails for a while.

    Args:
        work: What to do; raises `RetryableError` where another attempt may help.
        endpoints: The servers.
        retries: How often each may be asked again.
        seconds: How long each may take in all.

    Raises:
        ServerUnavailableError: All failed, each named with its reason.
    """
    attempts = _Attempts(endpoints, retries, seconds)
    count = len(endpoints)
    in_time = stop_before_delay(seconds * count)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(RetryableError),
        stop=lambda state: in_time(state) or attempts.hopeless(),
        wait=attempts.wait,
        reraise=True,
    )
    try:
        async with asyncio.timeout(seconds * count):
            return await retrying(attempts.run, work)
    except (RetryableError, TimeoutError) as error:
        status = error.status if isinstance(error, RetryableError) else None
        raise ServerUnavailableError(attempts.report(), status) from None


class _Attempts:
    """The attempts of one request: which servers failed it, and which are left."""

    def __init__(self, endpoints: Sequence[Endpoint], retries: int, seconds: float) -> None:
        self._endpoints = endpoints
        self._retries = retries
        self._seconds = seconds
        self._asked: Counter[Endpoint] = Counter()
        self._spent: defaultdict[Endpoint, float] = defaultdict(float)
        self._errors: dict[Endpoint, RetryableError] = {}
        self._again: dict[Endpoint, float] = {}
        self._started = monotonic()

    async def run(self, work: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Try once, where it is best."""
        endpoint = self._next()
        self._asked[endpoint] += 1
        endpoint.busy += 1
        started = monotonic()
        try:
            # Waiting for another call to find the server out is part of its time too.
            async with asyncio.timeout(self._seconds - self._spent[endpoint]):
                return await work(endpoint)
        except TimeoutError:
            url = endpoint.address.url
            error = RetryableError(f"{url} gave no answer within {self._seconds:.3g} s", here=False)
        except RetryableError as caught:
            error = caught
        finally:
            endpoint.busy -= 1
            self._spent[endpoint] += monotonic() - started
        endpoint.fail(error)
        self._errors[endpoint] = error
        self._again[endpoint] = monotonic() + (error.after or 0.0)
        raise error

    def hopeless(self) -> bool:
        """Say whether no server is left that may be asked again."""
        return not self._left()

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds to the next attempt: none where another server is next."""
        if self.hopeless():
            return 0.0
        endpoint = self._next()
        if endpoint not in self._errors:
            return 0.0
        if self._errors[endpoint].after is None:
            return _backoff(state)
        return max(0.0, self._again[endpoint] - monotonic())

    def report(self) -> str:
        """Return each server's last failure."""
        spent = f"{self._asked.total()} attempts in {monotonic() - self._started:.1f} s"
        failures = [str(error) for error in self._errors.values()]
        silence = f"gave no answer within {self._seconds:.3g} s"
        failures += [
            f"{e.address.url} {silence if self._asked[e] else 'was not asked'}"
            for e in self._endpoints
            if e not in self._errors
        ]
        if len(failures) == 1:
            return f"{failures[0]} ({spent})"
        return f"no server answered ({spent}):\n- " + "\n- ".join(failures)

    def _next(self) -> Endpoint:
        return min(self._left(), key=self._preference)

    def _left(self) -> list[Endpoint]:
        return [
            e
            for e in self._endpoints
            if self._asked[e] <= self._retries
            and self._spent[e] < self._seconds
            and (e not in self._errors or self._errors[e].here)
        ]

    def _preference(self, endpoint: Endpoint) -> tuple[bool, bool, float, int]:
        """Order servers: those not asked yet first, fresh ones before those that rest."""
        resting = endpoint.rests_until > monotonic()
        until = endpoint.rests_until if resting else 0.0
        return endpoint in self._errors, resting, until, endpoint.busy
