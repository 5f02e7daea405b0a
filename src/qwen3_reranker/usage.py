"""What calls cost: tokens, documents and seconds, for one call and for all calls of a reranker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self

__all__ = ["EndpointStats", "EndpointUsage", "EngineStats", "Stats", "Stopwatch", "Usage"]


class _Summable:
    """Frozen dataclasses of numbers, and of mappings of such dataclasses, that can be added."""

    __slots__ = ()
    __dataclass_fields__: Any

    def __add__(self, other: Self) -> Self:
        if type(self) is not type(other):
            return NotImplemented
        names = self.__dataclass_fields__
        return type(self)(*(_add(getattr(self, name), getattr(other, name)) for name in names))

    def __repr__(self) -> str:
        """Show what is not 0, and seconds rounded to a tenth of a millisecond."""
        shown = {name: getattr(self, name) for name in self.__dataclass_fields__}
        entries = ", ".join(f"{name}={_shown(value)}" for name, value in shown.items() if value)
        return f"{type(self).__name__}({entries})"


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, dict):
        both = {**a, **b}
        return {key: a[key] + b[key] if key in a and key in b else both[key] for key in both}
    return a + b


def _shown(value: Any) -> str:
    return repr(round(value, 4) if isinstance(value, float) else value)


@dataclass(frozen=True, slots=True, repr=False)
class EndpointUsage(_Summable):
    """
    What one server did.

    Attributes:
        requests: The requests that it answered with scores.
        documents: The texts that it scored.
        tokens: The prompt tokens of these requests, counted as in `Usage.tokens`.
        seconds: The sum of the seconds from sending each request to receiving its answer.
    """

    requests: int = 0
    documents: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class EndpointStats(EndpointUsage):
    """
    What one server did since the reranker was made, and its state.

    Attributes:
        requests: The requests that it answered with scores.
        documents: The texts that it scored.
        tokens: The prompt tokens of these requests, counted as in `Usage.tokens`.
        seconds: The sum of the seconds from sending each request to receiving its answer.
        failures: The attempts that failed, including those to detect the server.
        retries: The attempts that were made here after the same request had failed, here or on
            another server.
        backoff_seconds: For how many seconds from now other servers are preferred, because this
            one has failed. 0.0 if it is healthy.
    """

    failures: int = 0
    retries: int = 0
    backoff_seconds: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class EngineStats(_Summable):
    """
    What one embedded engine did for a reranker, and how often it failed.

    Attributes:
        requests: The requests that it answered with scores.
        documents: The texts that it scored.
        tokens: The prompt tokens of these requests, including the template.
        seconds: The sum of the seconds from sending each request to receiving its answer.
        failures: How often its process ended unexpectedly or did not start, whichever reranker
            used it.
        restarts: How often a new process took the place of one that had ended.
    """

    requests: int = 0
    documents: int = 0
    tokens: int = 0
    seconds: float = 0.0
    failures: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Usage(_Summable):
    """
    What a call cost.

    Instances can be added. A call is divided into parts that may run at the same time, and the
    seconds of all parts are added up: `tokenizing_seconds`, `waiting_seconds` and
    `scoring_seconds` may therefore be larger than `seconds`, the duration of the whole call.
    `dataclasses.asdict()` returns a dictionary that JSON can represent.

    Attributes:
        queries: The number of calls: 1, unless usage was added up.
        failures: The calls that failed while their documents were scored, including those whose
            order `on_error="keep_order"` kept. Of what they cost only `seconds` is counted.
        documents: The documents that the caller gave, including blank and repeated ones.
        passages: The passages that documents were divided into. 0 if they were scored whole.
        scored: The texts that the engine or the servers scored. A text is a document or a passage;
            blank ones are not scored, and equal ones are scored once.
        cached: The texts whose score was in the cache.
        truncated: The unique documents whose end was cut off to fit `max_length`.
        tokens: The tokens of the prompts that were scored, including the template. A server's own
            count is used if it counts what the model reads; otherwise the token ids are counted
            that were sent. Texts that were sent to a server that counts nothing are not included.
        uncounted: The texts that `tokens` does not include.
        retries: The attempts that followed a failed one, on the same server or engine or on another
            one.
        splits: The requests that were too large for a server, and were split in two.
        seconds: The duration of the call.
        tokenizing_seconds: Seconds in which prompts were written.
        waiting_seconds: Seconds in which a part waited: for the engine's start or the server's
            detection, for its turn, or for an attempt that failed and the pause after it.
        scoring_seconds: Seconds from sending prompts to the engine or a server to receiving the
            scores.
        endpoints: What each server contributed, by its URL. Empty for an embedded engine.
    """

    queries: int = 0
    failures: int = 0
    documents: int = 0
    passages: int = 0
    scored: int = 0
    cached: int = 0
    truncated: int = 0
    tokens: int = 0
    uncounted: int = 0
    retries: int = 0
    splits: int = 0
    seconds: float = 0.0
    tokenizing_seconds: float = 0.0
    waiting_seconds: float = 0.0
    scoring_seconds: float = 0.0
    endpoints: Mapping[str, EndpointUsage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Stats(Usage):
    """
    What all calls of a reranker cost: the sum of their `Usage`, see there for the attributes.

    Attributes:
        endpoints: What each server did and its state, by its URL, including calls that failed.
            Empty for an embedded engine.
        engines: What each embedded engine did, by its device: "0" or "cpu:0-7" for example, and
            "default" without `devices`. Empty for servers.
    """

    endpoints: Mapping[str, EndpointStats] = field(default_factory=dict)
    engines: Mapping[str, EngineStats] = field(default_factory=dict)


class Stopwatch:
    """Measure consecutive intervals."""

    __slots__ = ("_started",)

    def __init__(self) -> None:
        self._started = perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, or since the stopwatch was made."""
        before, self._started = self._started, perf_counter()
        return self._started - before
