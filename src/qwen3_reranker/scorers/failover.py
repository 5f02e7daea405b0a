"""Try a request on the least busy server, then on the others, then again."""

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

from qwen3_reranker.errors import DetectionError, ServerError, ServerUnavailableError
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
    Do `work` on the least busy server; where that fails, on another one or again.

    A server that raises `RetryableError` backs off and is asked last. So does one that cannot be
    detected, but it is not asked again for this request.

    Args:
        work: Does the work on one server.
        endpoints: The servers, at least one.
        retries: How often each server may be asked again.
        seconds: The seconds that each server may take in all.

    Raises:
        ServerUnavailableError: All servers failed; the message names each with its reason.
        DetectionError: No server could be detected; the message names each with its reason.
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
        raise attempts.error(getattr(error, "status", None)) from None


class _UndetectedError(RetryableError):
    """A server that cannot be detected: another one may still do the work."""

    def __init__(self, error: DetectionError) -> None:
        super().__init__(str(error), error.status, here=False)


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
        """Try once, on the server that is preferred now."""
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
        except DetectionError as caught:
            error = _UndetectedError(caught)
        finally:
            endpoint.busy -= 1
            self._spent[endpoint] += monotonic() - started
        endpoint.fail(error)
        self._errors[endpoint] = error
        self._again[endpoint] = monotonic() + (error.after or 0.0)
        raise error

    def hopeless(self) -> bool:
        """Return whether no server is left that may be asked again."""
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

    def error(self, status: int | None) -> ServerError:
        """Return the error to raise when no attempt succeeded."""
        undetected = all(isinstance(self._errors.get(e), _UndetectedError) for e in self._endpoints)
        if undetected and len(self._endpoints) == 1:
            return DetectionError(str(self._errors[self._endpoints[0]]), status)
        kind = DetectionError if undetected else ServerUnavailableError
        headline = "no server can be used" if undetected else "no server answered"
        return kind(self._report(headline), status)

    def _report(self, headline: str) -> str:
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
        listed = [failure.replace("\n", "\n  ") for failure in failures]
        return f"{headline} ({spent}):\n- " + "\n- ".join(listed)

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
        """Return a sort key: untried first, then healthy before backing off, then least busy."""
        resting = endpoint.rests_until > monotonic()
        until = endpoint.rests_until if resting else 0.0
        return endpoint in self._errors, resting, until, endpoint.busy
