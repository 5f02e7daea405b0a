"""Try a request on the least busy server, then on the others, then again."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
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

from qwen3_reranker.errors import (
    AnswerError,
    DetectionError,
    RerankerError,
    ServerError,
    ServerUnavailableError,
)
from qwen3_reranker.remote.detection import UnfitServerError
from qwen3_reranker.remote.endpoint import Endpoint
from qwen3_reranker.remote.transport import RetryableError, TooLargeError

__all__ = ["Budget", "attempt"]

T = TypeVar("T")

_backoff = wait_exponential(multiplier=0.25, max=8) + wait_random(0, 0.5)


@dataclass
class Budget:
    """
    The time that one call may take, through detection, retries and halvings.

    A call hands its budget to one `attempt` after the other. What passes between them, such as the
    wait for a free connection, does not count.

    Attributes:
        seconds: The seconds that each server may take.
        servers: How many servers there are; in all, the call takes that many times `seconds`.
        spent: The seconds that each server has taken.
        elapsed: The seconds that all attempts have taken, with the waits between them.
        attempts: How many attempts were made.
        halvings: How many requests were too large and were halved.
        too_large: What the server said of the last one of them.
    """

    seconds: float
    servers: int
    spent: defaultdict[Endpoint, float] = field(default_factory=lambda: defaultdict(float))
    elapsed: float = 0.0
    attempts: int = 0
    halvings: int = 0
    too_large: str = ""

    @property
    def left(self) -> float:
        """The seconds that are left for the whole call."""
        return self.seconds * self.servers - self.elapsed

    def copy(self) -> Budget:
        """Return a budget with as much left, for one of several parts that run side by side."""
        return replace(self, spent=self.spent.copy())

    def halve(self, error: TooLargeError) -> None:
        """Note that a request was too large."""
        self.halvings += 1
        self.too_large = str(error)


async def attempt(
    work: Callable[[Endpoint], Awaitable[T]],
    endpoints: Sequence[Endpoint],
    *,
    retries: int,
    budget: Budget,
) -> T:
    """
    Do `work` on the least busy server; where that fails, on another one or again.

    A server that raises `RetryableError` backs off and is asked last. So does one that cannot be
    detected, and, of several servers, one that refuses the key, answers with something else than
    scores, or does not fit the settings; but it is not asked again for this request.

    Args:
        work: Does the work on one server.
        endpoints: The servers, at least one.
        retries: How often each server may be asked again.
        budget: The time that is left; what this takes is charged to it.

    Raises:
        ServerUnavailableError: All servers failed, or the time is over; the message names each
            server with its reason.
        DetectionError: No server could be detected; the message names each with its reason.
        RerankerError: Any other error of the only server, or of a request that no server would
            take.
    """
    attempts = _Attempts(endpoints, retries, budget)
    in_time = stop_before_delay(budget.left)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(RetryableError),
        stop=lambda state: in_time(state) or attempts.hopeless(),
        wait=attempts.wait,
        reraise=True,
    )
    started = monotonic()
    try:
        async with asyncio.timeout(budget.left):
            return await retrying(attempts.run, work)
    except (RetryableError, TimeoutError) as error:
        failure = error
    finally:
        budget.elapsed += monotonic() - started
    raise attempts.error(getattr(failure, "status", None))


class _UndetectedError(RetryableError):
    """A server that cannot be detected: another one may still do the work."""

    def __init__(self, error: DetectionError) -> None:
        super().__init__(str(error), error.status, here=False)


class _UnfitError(RetryableError):
    """One of several servers refuses the key, or does not answer or fit as the others may."""

    def __init__(self, endpoint: Endpoint, error: RerankerError) -> None:
        url, message = endpoint.address.url, str(error)
        text = message if url in message else f"{url}: {message}"
        super().__init__(text, getattr(error, "status", None), here=False)


class _Attempts:
    """The attempts of one request: which servers failed it, and which are left."""

    def __init__(self, endpoints: Sequence[Endpoint], retries: int, budget: Budget) -> None:
        self._endpoints = endpoints
        self._retries = retries
        self._budget = budget
        self._asked: Counter[Endpoint] = Counter()
        self._errors: dict[Endpoint, RetryableError] = {}
        self._again: dict[Endpoint, float] = {}

    async def run(self, work: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Try once, on the server that is preferred now."""
        if self.hopeless():
            raise TimeoutError
        budget = self._budget
        endpoint = self._next()
        self._asked[endpoint] += 1
        budget.attempts += 1
        endpoint.busy += 1
        started = monotonic()
        try:
            # Waiting for the detection that another call began counts as the server's time too.
            async with asyncio.timeout(budget.seconds - budget.spent[endpoint]):
                return await work(endpoint)
        except TimeoutError:
            error = RetryableError(self._late(endpoint), here=False)
        except RetryableError as caught:
            error = caught
        except DetectionError as caught:
            error = _UndetectedError(caught)
        except (ServerError, AnswerError, UnfitServerError) as caught:
            refused = not isinstance(caught, ServerError) or caught.status in (401, 403)
            if len(self._endpoints) == 1 or not refused:
                raise
            error = _UnfitError(endpoint, caught)
        finally:
            endpoint.busy -= 1
            budget.spent[endpoint] += monotonic() - started
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
        """Return each server's last failure, and what the call did until then."""
        budget = self._budget
        spent = f"{budget.attempts} attempts in {budget.elapsed:.1f} s"
        if budget.halvings:
            spent += f"; {budget.halvings} requests were too large and were halved"
        failures = [str(error) for error in self._errors.values()]
        failures += [self._late(e) for e in self._endpoints if e not in self._errors]
        if len(failures) == 1:
            message = f"{failures[0]} ({spent})"
        else:
            listed = [failure.replace("\n", "\n  ") for failure in failures]
            message = f"{headline} ({spent}):\n- " + "\n- ".join(listed)
        if budget.too_large:
            message += f"\nThe last request that was too large: {budget.too_large}"
        return message

    def _late(self, endpoint: Endpoint) -> str:
        """Return what is said of a server that did not finish in time."""
        budget, url = self._budget, endpoint.address.url
        if not (self._asked[endpoint] or budget.spent[endpoint]):
            return f"{url} was not asked"
        what = "did not finish" if budget.halvings else "gave no answer"
        return f"{url} {what} within {budget.seconds:.3g} s"

    def _next(self) -> Endpoint:
        return min(self._left(), key=self._preference)

    def _left(self) -> list[Endpoint]:
        return [
            e
            for e in self._endpoints
            if self._asked[e] <= self._retries
            and self._budget.spent[e] < self._budget.seconds
            and (e not in self._errors or self._errors[e].here)
        ]

    def _preference(self, endpoint: Endpoint) -> tuple[bool, bool, float, int]:
        """Return a sort key: untried first, then healthy before backing off, then least busy."""
        resting = endpoint.rests_until > monotonic()
        until = endpoint.rests_until if resting else 0.0
        return endpoint in self._errors, resting, until, endpoint.busy
