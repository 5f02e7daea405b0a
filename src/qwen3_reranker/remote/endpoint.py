"""One server: how it is asked, once that is found out, how busy it is, and whether it rests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import Dialect, Limits
from qwen3_reranker.errors import AnswerError, DetectionError, ServerError
from qwen3_reranker.model.probability import sigmoid
from qwen3_reranker.model.probe import NEGATION, PROBES, InstructionEffect
from qwen3_reranker.redaction import Secret
from qwen3_reranker.remote.base_url import Address
from qwen3_reranker.remote.detection import Detector, Route, Template
from qwen3_reranker.remote.detection.route import Answer
from qwen3_reranker.remote.server_client import ServerClient
from qwen3_reranker.remote.transport import RetryableError, TooLargeError, Transport
from qwen3_reranker.scorer import Scores

__all__ = ["Endpoint", "Settings"]

# Seconds of back-off after the first failure in a row; doubled with every further one, up to a
# minute. The exponent is bounded because 2.0**1024 overflows a float.
_FIRST_REST = 1.0
_LONGEST_REST = 60.0
_MOST_DOUBLINGS = 6
# Seconds for which a route that was confirmed is not doubted again.
_TRUST = 60.0


@dataclass(frozen=True)
class Settings:
    """What all servers of a scorer have in common; see `RemoteScorer`."""

    model: str | None
    max_length: int | None
    dialect: Dialect | None
    template: Template
    tokenizer: str | None = field(repr=False)  # megabytes
    api_key: Secret | None
    timeout: float


class Endpoint:
    """
    One server.

    Attributes:
        address: Where it is.
        route: How it is asked; None until `resolve`.
        busy: How many attempts are made on it at the moment.
        rests_until: Until when it is asked last, in seconds of `time.monotonic`.
    """

    def __init__(self, address: Address, settings: Settings, transport: Transport) -> None:
        self.address = address
        self.route: Route | None = None
        self.busy = 0
        self.rests_until = 0.0
        self._settings = settings
        self._client = ServerClient(address, transport, settings.api_key, settings.timeout)
        self._failures = 0
        self._resolving = asyncio.Lock()
        self._probing = asyncio.Lock()
        self._honors: bool | None = None
        self._refuses_instruction = False
        # How many detections have ended, and the error of the last one.
        self._detections = 0
        self._undetected: DetectionError | RetryableError | None = None
        # The server may have changed since it was detected; if in doubt, probe it in any case.
        self._outdated = self._in_doubt = False
        # Until when the route is trusted in spite of an answer, by the kind of the answer.
        self._trusted_until: dict[tuple[int | None, bool] | None, float] = {}

    @property
    def known(self) -> Route | None:
        """How this server is asked; None if that is unknown or may have changed."""
        return None if self._outdated else self.route

    async def resolve(self) -> Route:
        """
        Return how to ask this server; detect it first if it is unknown or has changed.

        One detection runs at a time, and calls that wait for it share its outcome.

        Raises:
            DetectionError: What is served here does not score as a Qwen3 reranker.
            RetryableError: The server cannot be reached, or is overloaded.
            ServerError: The server refused the key.
        """
        if (known := self.known) is not None:
            return known
        seen = self._detections
        async with self._resolving:
            if self._detections == seen:
                return await self._resolve()
        if self._undetected is not None:
            raise _alike(self._undetected)
        return await self.resolve()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of the texts, in one request.

        A server that no longer knows the path or the model, or that counts too many or too few
        tokens for the template, is detected again, and asked again if it has changed: no score
        comes from an outdated route.

        Raises:
            TooLargeError: They are more than this server takes at once.
            RetryableError: The server failed in a way that may pass.
            AnswerError: Its answer is not one probability a text.
            DetectionError: The server has changed, and does not score as a Qwen3 reranker now.
            ServerError: It refused.
        """
        route = await self.resolve()
        answer: Answer | ServerError
        try:
            answer = await self._ask(route, query, texts, instruction)
        except RetryableError as error:
            if error.disconnected and self.route is route:
                self._outdated = True
            raise
        except ServerError as error:
            if not _names_nothing(error):
                raise
            answer = error
        if isinstance(answer, ServerError) or not answer.template_fits:
            current = await self._confirm(route, answer)
            if not current.same(route):
                route, answer = current, await self._ask(current, query, texts, instruction)
        if isinstance(answer, ServerError):
            raise answer
        values = self._probabilities(route, answer.values)
        self._failures, self.rests_until = 0, 0.0
        return Scores(values, answer.truncated)

    async def honors_instruction(self) -> bool:
        """
        Return whether this server reads an instruction; measured once, if it is not certain.

        A server that refuses every request with an instruction does not read it.
        """
        route = await self.resolve()
        if route.template_by == "client":
            return True
        if not route.dialect.instruction:
            return False
        async with self._probing:
            if self._honors is None:
                self._honors = await self._measure_instruction()
            return self._honors

    def fail(self, error: RetryableError) -> None:
        """Back off: for as long as the server asks, else longer with every failure in a row."""
        now = monotonic()
        if now >= self.rests_until:  # failures of requests in flight together count as one
            self._failures += 1
        doublings = min(self._failures - 1, _MOST_DOUBLINGS)
        rest = min(_LONGEST_REST, _FIRST_REST * 2**doublings)
        until = now + (rest if error.after is None else error.after)
        self.rests_until = max(self.rests_until, until)

    async def _resolve(self) -> Route:
        try:
            self.route = await self._detect()
        except (DetectionError, RetryableError) as error:
            self._undetected = _alike(error)
            self._detections += 1
            raise
        self._undetected = self._honors = None
        self._outdated = self._in_doubt = self._refuses_instruction = False
        self._detections += 1
        return self.route

    async def _confirm(self, route: Route, answer: Answer | ServerError) -> Route:
        """
        Detect the server again, after an answer that does not fit `route`.

        If it was the tokens counted that did not, the server is probed in any case.

        A server that answers like this for another reason is not detected again and again: where
        nothing has changed, `route` is trusted for a minute in spite of answers of that kind.
        """
        refusal = answer if isinstance(answer, ServerError) else None
        counts = refusal is None
        unknown_model = refusal is not None and _UNKNOWN_MODEL.search(str(refusal)) is not None
        kind = None if refusal is None else (refusal.status, unknown_model)
        if self.route is route:
            if monotonic() < self._trusted_until.get(kind, 0.0):
                return route
            self._outdated, self._in_doubt = True, self._in_doubt or counts
        current = await self.resolve()
        if current.same(route):
            self._trusted_until[kind] = monotonic() + _TRUST
        return current

    async def _detect(self) -> Route:
        settings = self._settings
        detector = Detector(
            self.address,
            self._client.get,
            self._client.post,
            self._client.adopt_key,
            dialect=settings.dialect,
            template=settings.template,
            model=settings.model,
            tokenizer=settings.tokenizer,
            max_length=settings.max_length,
            always_probe=self._in_doubt,
        )
        return await detector.run()

    async def _measure_instruction(self) -> bool:
        query, texts = PROBES[1]
        plain, repeat = await event_loop.gather(
            [asyncio.create_task(self.score(query, texts, None)) for _ in range(2)]
        )
        for _ in range(2):  # one failure may be an accident
            try:
                other = await self.score(query, texts, NEGATION)
            except (ServerError, AnswerError) as error:
                if isinstance(error, RetryableError) and error.passing:
                    raise
            else:
                return InstructionEffect.measure(plain.values, repeat.values, other.values).honored
        self._refuses_instruction = True
        return False

    async def _ask(
        self, route: Route, query: str, texts: Sequence[str], instruction: str | None
    ) -> Answer:
        if len(texts) > 1 and len(split(query, texts, route.dialect.limits)) > 1:
            raise TooLargeError(f"{len(texts)} documents are too many for {route.dialect.name}")
        if self._refuses_instruction:
            instruction = None
        return await route.ask(self._client.post, query, texts, instruction)

    def _probabilities(self, route: Route, values: Sequence[float]) -> list[float]:
        if route.logits:
            return [sigmoid(value) for value in values]
        for index, value in enumerate(values):
            # A float's last digit may stand above 1.
            if not -1e-6 <= value <= 1 + 1e-6:
                raise AnswerError(
                    f"{self.address.url} gave document {index} the score {value!r}, which is no "
                    "probability: it answers log-odds, or is no reranker"
                )
        return [min(max(value, 0.0), 1.0) for value in values]


def _alike(error: DetectionError | RetryableError) -> DetectionError | RetryableError:
    """Return an error that says the same, without the traceback."""
    if isinstance(error, RetryableError):
        return RetryableError(str(error), error.status, after=error.after, here=error.here)
    return DetectionError(str(error), error.status)


def _names_nothing(error: ServerError) -> bool:
    """Return whether the server knows the path or the model no longer."""
    return error.status in (404, 405) or (
        error.status == 400 and _UNKNOWN_MODEL.search(str(error)) is not None
    )


# Xinference and LiteLLM answer 400 to a model that they do not have.
_UNKNOWN_MODEL = re.compile(
    r"\bmodel\b.{0,80}\b(?:not found|not exist|not deployed)|\b(?:invalid|unknown) model\b",
    re.IGNORECASE,
)


def split(query: str, texts: Sequence[str], limits: Limits) -> list[range]:
    """Return runs of `texts` that each fit into one request."""
    # As most do, which is told without looking at each: a character has four bytes at most.
    few = len(texts) <= limits.documents and 4 * sum(map(len, texts)) <= limits.size
    if few and limits.tokens is None:
        return [range(len(texts))]
    fixed = len(query.encode())
    runs: list[range] = []
    start = size = tokens = 0
    for place, text in enumerate(texts):
        length = len(text.encode())
        # Without tokenizing: a token is four bytes of English, and fewer of other languages.
        more = (fixed + length) // 3 + 100
        full = place - start >= limits.documents or size + length > limits.size
        if place > start and (
            full or (limits.tokens is not None and tokens + more > limits.tokens)
        ):
            runs.append(range(start, place))
            start, size, tokens = place, 0, 0
        size += length
        tokens += more
    return [*runs, range(start, len(texts))]
