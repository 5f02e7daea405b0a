"""Try a request on the least busy server, then on the others, then again."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Self

from tenacity import (
    AsyncRetrying,
    AttemptManager,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from qwen3_reranker.errors import (
    AnswerError,
    DetectionError,
    PromptTooLongError,
    RerankerError,
    ServerError,
    ServerUnavailableError,
    UnsupportedFeatureError,
)
from qwen3_reranker.remote.detection import UnfitServerError
from qwen3_reranker.remote.endpoint import Endpoint
from qwen3_reranker.remote.responses import RetryableError, TooLargeError, is_key_refusal

__all__ = ["Attempts", "Budget"]

_logger = logging.getLogger(__name__)
_backoff = wait_exponential(multiplier=0.25, max=8)
_jitter = wait_random(0, 0.5)


@dataclass
class Budget:
    """
    The time that one call may take, for detection, retries and split requests together.

    All `Attempts` of a call share its budget. Time between them, such as waiting for a free
    connection, does not count.

    Attributes:
        seconds: The seconds that each server may take.
        servers: The number of servers. The whole call may take that many times `seconds`.
        spent: The seconds that each server has taken.
        elapsed: The seconds that all attempts have taken, with the waits between them.
        attempts: The number of attempts.
        halvings: The number of requests that were too large and were split in two.
        too_large: The server's message about the last one of them.
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

    def left_for(self, endpoint: Endpoint) -> float:
        """Return the seconds that are left for one server."""
        return min(self.left, self.seconds - self.spent[endpoint])

    def copy(self) -> Budget:
        """Return a budget with as much time left, for one of several concurrent requests."""
        return replace(self, spent=self.spent.copy())

    def halve(self, error: TooLargeError) -> None:
        """
        Record that a request was too large.

        Args:
            error: The server's error.
        """
        self.halvings += 1
        self.too_large = str(error)


class Attempts:
    """
    The attempts of one request, as an async iterator.

    Each item is an async context manager that yields the server to use. It records how the attempt
    ended and bounds its time. A failure that another attempt may overcome is suppressed, and the
    iterator goes on to the next attempt:

        async for attempt in Attempts(endpoints, retries=3, budget=budget):
            async with attempt as endpoint:
                return await endpoint.resolve()

    A server that raises a `RetryableError` backs off and is tried last. The same holds for one that
    cannot be detected and, if there are several servers, for one that refuses the API key, returns
    no scores or does not fit the settings; but these are not tried again for this request. If there
    are several servers, one that cannot serve this request, because the query is too long or a
    feature is unsupported, is not tried again either, but does not back off.

    Iterating raises, once no attempt is left, an error that names each server with the reason:

    - an error of the same type, if all servers were left for errors of one type, such as
      `DetectionError`, `InputError` or `PromptTooLongError`;
    - `ServerUnavailableError` otherwise, as when all servers failed or the time is up.

    Any other error of the only server, or of a request that no server would accept, is raised by
    the context manager.

    Args:
        endpoints: The servers, at least one.
        retries: How many times each server may be tried again, 0 or more.
        budget: The time that is left. What the attempts take is charged to it.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, retries: int, budget: Budget) -> None:
        self._endpoints = endpoints
        self._retries = retries
        self._budget = budget
        self._tried: Counter[Endpoint] = Counter()
        self._errors: dict[Endpoint, RetryableError] = {}
        # When a server that asked for a delay may be tried again.
        self._retry_at: dict[Endpoint, float] = {}
        in_time = stop_before_delay(budget.left)
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(RetryableError),
            stop=lambda state: in_time(state) or not self._left(),
            wait=self._wait,
            reraise=True,
        )

    def __aiter__(self) -> Self:
        aiter(self._retrying)
        return self

    async def __anext__(self) -> AbstractAsyncContextManager[Endpoint]:
        started = monotonic()
        try:
            attempt = await anext(self._retrying)
        except RetryableError as error:
            raise self._failure(error.status) from None
        finally:
            self._budget.elapsed += monotonic() - started
        if not self._left():  # the time is up before the first attempt
            raise self._failure(None)
        return self._attempt(attempt)

    @asynccontextmanager
    async def _attempt(self, attempt: AttemptManager) -> AsyncIterator[Endpoint]:
        budget, endpoint = self._budget, self._next()
        self._tried[endpoint] += 1
        budget.attempts += 1
        if self._errors:
            endpoint.retries += 1
            _logger.info("retrying on %s (attempt %d)", endpoint.address.url, budget.attempts)
        endpoint.in_flight += 1
        started, to_blame = monotonic(), True
        try:
            # The one deadline of everything below: detection, also when another call has begun it,
            # and the request itself.
            async with asyncio.timeout(budget.left_for(endpoint)):
                yield endpoint
                return
        except TimeoutError:
            error = RetryableError(self._late(endpoint), here=False)
        except RetryableError as caught:
            error = caught
        except DetectionError as caught:
            error = _UnfitError(endpoint, caught)
        except (PromptTooLongError, UnsupportedFeatureError) as caught:
            if len(self._endpoints) == 1:
                raise
            error = _UnfitError(endpoint, caught)
            to_blame = False
        except (ServerError, AnswerError, UnfitServerError) as caught:
            refused = not isinstance(caught, ServerError) or is_key_refusal(caught)
            if len(self._endpoints) == 1 or not refused:
                endpoint.failures += not isinstance(caught, TooLargeError)
                raise
            error = _UnfitError(endpoint, caught)
        finally:
            endpoint.in_flight -= 1
            took = monotonic() - started
            budget.spent[endpoint] += took
            budget.elapsed += took
        if to_blame:
            endpoint.fail(error)
        self._errors[endpoint] = error
        self._retry_at[endpoint] = monotonic() + (error.after or 0.0)
        with attempt:  # suppresses the error, and decides whether another attempt follows
            raise error

    def _wait(self, state: RetryCallState) -> float:
        """
        Return the seconds to wait before the next attempt: none if it is on another server.

        A delay that the server asked for is kept, but does not replace the back-off, which is
        longer than a delay of 0.
        """
        if not self._left():
            return 0.0
        endpoint = self._next()
        if endpoint not in self._errors:
            return 0.0
        return max(_backoff(state), self._retry_at[endpoint] - monotonic()) + _jitter(state)

    def _failure(self, status: int | None) -> RerankerError:
        """Return the error to raise when no attempt succeeded."""
        unfit = [error for error in self._errors.values() if isinstance(error, _UnfitError)]
        if len(unfit) < len(self._endpoints):
            return ServerUnavailableError(self._report("no server answered"), status)
        original = unfit[-1].original
        if len(unfit) == 1:
            return original
        message = self._report("no server can be used")
        if any(type(error.original) is not type(original) for error in unfit):
            return ServerUnavailableError(message, status)
        original.args = (message, *original.args[1:])
        return original

    def _report(self, headline: str) -> str:
        """Return a message with the last failure of each server, and what the call did."""
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
        """Return a message about a server that did not finish in time."""
        budget, url = self._budget, endpoint.address.url
        if not (self._tried[endpoint] or budget.spent[endpoint]):
            return f"{url} was not tried"
        what = "did not finish" if budget.halvings else "gave no answer"
        return f"{url} {what} within {budget.seconds:.3g} s"

    def _next(self) -> Endpoint:
        return min(self._left(), key=self._preference)

    def _left(self) -> list[Endpoint]:
        """Return the servers that may be tried, or tried again."""
        return [
            e
            for e in self._endpoints
            if self._tried[e] <= self._retries
            and self._budget.left_for(e) > 0
            and (e not in self._errors or self._errors[e].here)
        ]

    def _preference(self, endpoint: Endpoint) -> tuple[bool, bool, float, int]:
        """Return a sort key: untried first, then healthy before backing off, then least busy."""
        backing_off = endpoint.backoff_until > monotonic()
        until = endpoint.backoff_until if backing_off else 0.0
        return endpoint in self._errors, backing_off, until, endpoint.in_flight


class _UnfitError(RetryableError):
    """
    A server cannot be used for this request. Another one may still serve it.

    Attributes:
        original: The error that says why.
    """

    def __init__(self, endpoint: Endpoint, original: RerankerError) -> None:
        url, message = endpoint.address.url, str(original)
        text = message if url in message else f"{url}: {message}"
        super().__init__(text, getattr(original, "status", None), here=False)
        self.original = original

    @property
    def cause(self) -> str:
        """What happened, without the server's own words."""
        detected = not isinstance(self.original, DetectionError)
        return "cannot be used" if detected else "cannot be detected"
