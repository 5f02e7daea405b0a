"""A server: its route once detected, the requests in flight, and its back-off state."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic

from qwen3_reranker.backoff import backoff
from qwen3_reranker.dialects import Dialect
from qwen3_reranker.errors import AnswerError, RerankerError, ServerError
from qwen3_reranker.model.probability import is_probability, sigmoid
from qwen3_reranker.model.probe import InstructionEffect
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.batching import split
from qwen3_reranker.remote.detection import Answer, Detector, Route, Template
from qwen3_reranker.remote.instruction import measure_instruction
from qwen3_reranker.remote.request_encoder import EncodedRequest
from qwen3_reranker.remote.responses import RetryableError, TooLargeError, is_absent
from qwen3_reranker.remote.server_client import ServerClient
from qwen3_reranker.remote.support import SupportReporter
from qwen3_reranker.remote.transport import Transport
from qwen3_reranker.scorer import Scores
from qwen3_reranker.usage import EndpointStats, EndpointUsage, Stopwatch, Usage

__all__ = ["Endpoint", "Settings", "backoff_seconds"]

_logger = logging.getLogger(__name__)

# The back-off after the first failure in a row, and the longest one, in seconds.
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 60.0
# For how many seconds a route is trusted after a new detection has confirmed it, and an instruction
# is not sent after the server has failed on it.
_TRUST = 60.0
# Xinference 4.1 and LiteLLM 1.106 answer 400 if they do not have a model.
_UNKNOWN_MODEL = re.compile(
    r"\bmodel\b.{0,80}\b(?:not found|not exist|not deployed)|\b(?:invalid|unknown) model\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Settings:
    """
    The settings that all servers of a scorer share.

    Attributes:
        model: The model's name on the servers. None uses the one that they list.
        max_length: The maximum number of tokens in a prompt. None uses 8192, or the server's limit
            if that is lower.
        dialect: The dialect; None detects it.
        template: Who writes the template; "auto" detects it.
        tokenizer: The content of the model's tokenizer.json; None looks for one on this machine.
        api_key: The API key. None loads one from the environment.
        timeout: The seconds that one server may take for a call.
        reporter: Reports what a server cannot do.
    """

    model: str | None
    max_length: int | None
    dialect: Dialect | None
    template: Template
    tokenizer: str | None = field(repr=False)  # several megabytes
    api_key: Secret | None
    timeout: float
    reporter: SupportReporter


class Endpoint:
    """
    One server.

    Args:
        address: Its address.
        settings: The settings that all servers share.
        transport: The connections.

    Attributes:
        address: Its address.
        route: The last route that was detected; None before the first detection.
        usage: What the server did for the calls that succeeded.
        failures: The number of attempts that failed.
        retries: The number of attempts for a request that had failed before, here or elsewhere.
        in_flight: The number of attempts in progress.
        backoff_until: When the back-off ends, in seconds of `time.monotonic()`. Until then, other
            servers are preferred.
    """

    def __init__(self, address: Address, settings: Settings, transport: Transport) -> None:
        self.address = address
        self.route: Route | None = None
        self.usage = EndpointUsage()
        self.failures = self.retries = 0
        self.in_flight = 0
        self.backoff_until = 0.0
        self._settings = settings
        self._client = ServerClient(address, transport, settings.api_key, settings.timeout)
        self._failures_in_a_row = 0
        self._resolving = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._honors: bool | None = None
        self._refuses_instruction = False
        self._measure_again_at = math.inf
        # The number of detections that have ended, and the error of the last one.
        self._detections = 0
        self._detection_error: RerankerError | None = None
        # The server may have changed since it was detected; if in doubt, it is probed in any case.
        self._outdated = self._in_doubt = False
        # Until when the route is trusted in spite of an answer, by the kind of the answer.
        self._trusted_until: dict[tuple[int | None, bool] | None, float] = {}

    @property
    def current(self) -> Route | None:
        """The route; None if the server is not detected yet, or may have changed since."""
        return None if self._outdated else self.route

    @property
    def refuses_instruction(self) -> bool | None:
        """Whether instructions are left out because the server refuses them; None if unknown."""
        unknown = self._honors is None or monotonic() >= self._measure_again_at
        return None if unknown else self._refuses_instruction

    async def resolve(self) -> Route:
        """
        Return the route of this server, detecting it if it is unknown or may have changed.

        There is one detection at a time. Calls that wait for it share its result.

        Raises:
            DetectionError: No endpoint of the server scores like a Qwen3 reranker.
            RetryableError: The server cannot be reached, or is overloaded.
            ServerError: The server refused the API key.
            UnfitServerError: A setting does not fit the server.
        """
        if (route := self.current) is not None:
            return route
        seen = self._detections
        async with self._resolving:
            if self._detections == seen:
                return await self._detect()
        if self._detection_error is not None:
            raise _copy(self._detection_error)
        return await self.resolve()

    async def check_support(
        self, route: Route, texts: Sequence[str], instruction: str | None
    ) -> None:
        """
        Report what the server cannot do for a request.

        The first time that an instruction is given, this may measure whether the server uses it.

        Args:
            route: The route of the request.
            texts: The documents.
            instruction: The instruction; None stands for the default.

        Raises:
            UnsupportedFeatureError: The server cannot fully serve the request, and
                `on_unsupported` is "raise".
            ServerError: The measurement failed.
        """
        ignored = instruction is not None and not await self._honors_instruction(route)
        url, reporter = self.address.url, self._settings.reporter
        reporter.check(url, route, texts, ignores_instruction=ignored)

    async def score(
        self, route: Route, query: str, texts: Sequence[str], instruction: str | None
    ) -> Scores:
        """
        Return P(yes) of each document, in one request.

        A server that no longer knows the path or the model, or that counts too many or too few
        tokens for the template, is detected again. If it has changed, `self.route` is replaced and
        the request is repeated, so that no score comes from an outdated route.

        Args:
            route: The route, as returned by `resolve()`.
            query: The query.
            texts: The documents, at least one, none of them blank. Together they have to be within
                the limits of the route.
            instruction: The instruction; None stands for the default.

        Raises:
            TooLargeError: The request is too large for the server.
            RetryableError: The server failed in a way that may be temporary.
            AnswerError: The response does not contain one probability per document.
            DetectionError: The server has changed, and does not score like a Qwen3 reranker now.
            ServerError: The server refused the request.
        """
        answer: Answer | ServerError
        try:
            watch = Stopwatch()
            encoded = await self._encode(route, query, texts, instruction)
            tokenizing = watch.lap()
            answer = await route.ask(self._client, encoded)
        except RetryableError as error:
            if error.disconnected and self.route is route:
                self._outdated = True
            raise
        except ServerError as error:
            if not _is_missing(error):
                raise
            answer = error
        if isinstance(answer, ServerError) or not answer.template_fits:
            current = await self._confirm(route, answer)
            if not current.equivalent(route):
                route = current
                _check_size(route, query, texts)
                encoded = await self._encode(route, query, texts, instruction)
                answer = await route.ask(self._client, encoded)
        if isinstance(answer, ServerError):
            raise answer
        values = self._probabilities(route, answer.values)
        if self._failures_in_a_row:
            _logger.info("%s answers again", self.address.url)
        self._failures_in_a_row, self.backoff_until = 0, 0.0
        usage = self._usage(route, encoded, answer, tokenizing)
        logits = answer.values if route.logits else None
        return Scores(values, answer.truncated, logits, usage=usage)

    def fail(self, error: RetryableError) -> None:
        """
        Start a back-off after a failure.

        It lasts as long as the server asked for. If it asked for none, the back-off doubles with
        every failure in a row, from a second to a minute.

        Args:
            error: The failure.
        """
        self.failures += 1
        now = monotonic()
        if now >= self.backoff_until:  # failures of concurrent requests count as one
            self._failures_in_a_row += 1
        in_a_row = self._failures_in_a_row
        seconds = error.after or backoff_seconds(in_a_row)
        until = now + seconds
        self.backoff_until = max(self.backoff_until, until)
        # Only DEBUG records may have a server's own words, which may repeat what it was sent.
        url = self.address.url
        _logger.warning("%s failed (%s) and backs off for %.1f s", url, error.cause, seconds)
        _logger.debug("the reason why %s failed: %s", url, error)

    def stats(self) -> EndpointStats:
        """Return what the server did so far, and its back-off."""
        left = max(0.0, self.backoff_until - monotonic())
        return EndpointStats(
            **asdict(self.usage), failures=self.failures, retries=self.retries, backoff_seconds=left
        )

    async def _encode(
        self, route: Route, query: str, texts: Sequence[str], instruction: str | None
    ) -> EncodedRequest:
        """Encode a request, without an instruction if the server refuses any."""
        sent = None if self._refuses_instruction else instruction
        return await route.encode(query, texts, sent)

    def _usage(
        self, route: Route, encoded: EncodedRequest, answer: Answer, tokenizing: float
    ) -> Usage:
        """Return what a request cost."""
        count = len(encoded.documents)
        # What a dialect without `counts` reports may be characters, or the documents alone.
        tokens = answer.tokens if route.dialect.counts else None
        if tokens is None:
            tokens = encoded.tokens
        here = EndpointUsage(1, count, tokens or 0, answer.seconds)
        return Usage(
            scored=count,
            tokens=here.tokens,
            uncounted=count if tokens is None else 0,
            tokenizing_seconds=tokenizing,
            scoring_seconds=answer.seconds,
            endpoints={self.address.url: here},
        )

    async def _detect(self) -> Route:
        settings, watch, in_doubt = self._settings, Stopwatch(), self._in_doubt
        detector = Detector(
            self._client,
            dialect=settings.dialect,
            template=settings.template,
            model=settings.model,
            tokenizer=settings.tokenizer,
            max_length=settings.max_length,
            always_probe=in_doubt,
        )
        try:
            self.route = await detector.run()
        except RerankerError as error:
            self._detection_error = _copy(error)
            self._detections += 1
            raise
        _logger.info("detected %s in %.1f s: %s", self.address.url, watch.lap(), self.route)
        self._detection_error = self._honors = None
        self._refuses_instruction = False
        # A doubt that arose meanwhile remains, because the server may not have been probed.
        self._outdated = self._in_doubt = self._in_doubt and not in_doubt
        self._detections += 1
        return self.route

    async def _confirm(self, route: Route, answer: Answer | ServerError) -> Route:
        """
        Detect the server again after an answer that does not fit `route`.

        After an unexpected number of tokens, the server is probed in any case. A server that gives
        such answers for another reason is not detected again and again: if nothing has changed,
        `route` is trusted for a minute in spite of answers of the same kind.
        """
        refusal = answer if isinstance(answer, ServerError) else None
        kind = None if refusal is None else (refusal.status, _is_unknown_model(refusal))
        if self.route is route:
            if monotonic() < self._trusted_until.get(kind, 0.0):
                return route
            _logger.info("%s may have changed, and is detected again", self.address.url)
            self._outdated, self._in_doubt = True, self._in_doubt or refusal is None
        current = await self.resolve()
        if current.equivalent(route):
            self._trusted_until[kind] = monotonic() + _TRUST
        return current

    async def _honors_instruction(self, route: Route) -> bool:
        """
        Return whether the server uses an instruction; measured once unless it is certain.

        A server that refuses every request with an instruction does not use it. If it failed on
        them, that may be an accident, or for good as with Xinference: it is measured again later.
        """
        if route.template_by == "client":
            return True
        if not route.sends_instruction:
            return False
        async with self._measuring:
            if monotonic() >= self._measure_again_at:
                self._honors, self._refuses_instruction = None, False
            if self._honors is None:
                self._honors = await self._measure_instruction(route)
            return self._honors

    async def _measure_instruction(self, route: Route) -> bool:
        async def score(query: str, texts: Sequence[str], instruction: str | None) -> list[float]:
            return (await self.score(route, query, texts, instruction)).values

        self._measure_again_at = math.inf
        effect = await measure_instruction(score)
        if isinstance(effect, InstructionEffect):
            return effect.honored
        if isinstance(effect, RetryableError):
            self._measure_again_at = monotonic() + _TRUST
        self._refuses_instruction = True
        return False

    def _probabilities(self, route: Route, values: Sequence[float]) -> list[float]:
        if route.logits:
            return [sigmoid(value) for value in values]
        for index, value in enumerate(values):
            if not is_probability(value):
                raise AnswerError(
                    f"{self.address.url} gave document {index} the score {value!r}, which is not a "
                    "probability: it returns log-odds, or is not a reranker"
                )
        return [min(max(value, 0.0), 1.0) for value in values]


def backoff_seconds(failures: int) -> float:
    """
    Return the back-off of a server that does not ask for one, in seconds.

    Args:
        failures: The number of failures in a row, at least 1.
    """
    return backoff(failures, first=_FIRST_BACKOFF, longest=_LONGEST_BACKOFF)


def _check_size(route: Route, query: str, texts: Sequence[str]) -> None:
    """Raise an error if a request exceeds the limits of the dialect and can be split."""
    if len(texts) > 1 and len(split(query, texts, route.dialect.limits)) > 1:
        raise TooLargeError(f"{len(texts)} documents are too many for {route.dialect.name}")


def _copy(error: RerankerError) -> RerankerError:
    """Return an equal error without the traceback, for another call to raise."""
    return copy.copy(error).with_traceback(None)


def _is_missing(error: ServerError) -> bool:
    """Return whether the server does not have the path or the model any more."""
    return is_absent(error) or (error.status == 400 and _is_unknown_model(error))


def _is_unknown_model(error: ServerError) -> bool:
    return _UNKNOWN_MODEL.search(str(error)) is not None
