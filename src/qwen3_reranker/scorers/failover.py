"""A request's attempts: on the least busy server, then on the others, then again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from qwen3_reranker.errors import ServerUnavailableError
from qwen3_reranker.scorers.endpoint import Endpoint
from qwen3_reranker.scorers.transport import RetryableError

__all__ = ["attempt"]

T = TypeVar("T")

_backoff = wait_exponential_jitter(initial=0.25, max=8, jitter=0.5)


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
    attempts = _Attempts(endpoints)
    count = len(endpoints)
    most, in_time = stop_after_attempt((retries + 1) * count), stop_before_delay(seconds * count)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(RetryableError),
        stop=lambda state: most(state) or in_time(state) or attempts.hopeless(),
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

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._errors: dict[Endpoint, RetryableError] = {}
        self._started = monotonic()
        self._count = 0

    async def run(self, work: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Try once, where it is best."""
        endpoint = min(self._left(), key=self._preference)
        self._count += 1
        try:
            return await work(endpoint)
        except RetryableError as error:
            endpoint.fail(error)
            self._errors[endpoint] = error
            raise

    def hopeless(self) -> bool:
        """Say whether no server is left that may be asked again."""
        return not self._left()

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds to the next attempt: none where another server is fresh."""
        now = monotonic()
        if any(e not in self._errors and e.rests_until <= now for e in self._left()):
            return 0.0
        asked = [error.after for e in self._left() if (error := self._errors.get(e))]
        if asked and None not in asked:
            return min(after for after in asked if after is not None)
        return _backoff(state)

    def report(self) -> str:
        """Return each server's last failure."""
        spent = f"{self._count} attempts in {monotonic() - self._started:.1f} s"
        failures = [str(error) for error in self._errors.values()]
        silent = [e.address.url for e in self._endpoints if e not in self._errors]
        failures += [f"{url} was not asked, or gave no answer in time" for url in silent]
        if len(failures) == 1:
            return f"{failures[0]} ({spent})"
        return f"no server answered ({spent}):\n- " + "\n- ".join(failures)

    def _left(self) -> list[Endpoint]:
        return [e for e in self._endpoints if e not in self._errors or self._errors[e].here]

    def _preference(self, endpoint: Endpoint) -> tuple[bool, float, int]:
        """Order servers: fresh ones before those that rest, then by their work."""
        resting = endpoint.rests_until > monotonic()
        return resting, endpoint.rests_until if resting else 0.0, endpoint.busy
