"""One server: how it is asked, once that is found out, how busy it is, and whether it rests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

from qwen3_reranker.errors import AnswerError, DetectionError
from qwen3_reranker.scorers.address import Address
from qwen3_reranker.scorers.base import Scores
from qwen3_reranker.scorers.detection import Detector, Route, Template
from qwen3_reranker.scorers.detection.probe import PROBES, logit, sigmoid
from qwen3_reranker.scorers.dialects import Ask, Dialect, Limits
from qwen3_reranker.scorers.redaction import Secret
from qwen3_reranker.scorers.server_client import ServerClient
from qwen3_reranker.scorers.transport import RetryableError, TooLargeError, Transport

__all__ = ["Endpoint", "Settings"]

# Seconds of back-off after the first failure in a row; doubled with every further one, up to a
# minute. The exponent is bounded because 2.0**1024 overflows a float.
_FIRST_REST = 1.0
_LONGEST_REST = 60.0
_MOST_DOUBLINGS = 6


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
        served: How it is asked; None until `settle`.
        busy: How many attempts are made on it at the moment.
        rests_until: Until when it is asked last, in seconds of `time.monotonic`.
    """

    def __init__(self, address: Address, settings: Settings, transport: Transport) -> None:
        self.address = address
        self.served: Route | None = None
        self.busy = 0
        self.rests_until = 0.0
        self._settings = settings
        self._client = ServerClient(address, transport, settings.api_key, settings.timeout)
        self._failures = 0
        self._settling = asyncio.Lock()
        self._probing = asyncio.Lock()
        self._honours: bool | None = None
        self._undetected: DetectionError | None = None

    async def settle(self) -> Route:
        """
        Return how to ask this server; detect it at the first call.

        Calls that wait for one detection share its outcome.

        Raises:
            DetectionError: What is served here does not score as a Qwen3 reranker.
            RetryableError: The server cannot be reached, or is overloaded.
            ServerError: The server refused the key.
        """
        failure = self._undetected
        async with self._settling:
            if self.served is None:
                if self._undetected is not failure and self._undetected is not None:
                    raise DetectionError(str(self._undetected), self._undetected.status)
                try:
                    self.served = await self._detect()
                except DetectionError as error:
                    self._undetected = error
                    raise
            return self.served

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of the texts, in one request.

        Raises:
            TooLargeError: They are more than this server takes at once.
            RetryableError: The server failed in a way that may pass.
            AnswerError: Its answer is not one probability a text.
            ServerError: It refused.
        """
        served = await self.settle()
        if len(texts) > 1 and len(split(query, texts, served.dialect.limits)) > 1:
            raise TooLargeError(f"{len(texts)} documents are too many for {served.dialect.name}")
        written = await served.writer.write(
            query,
            texts,
            instruction,
            served.owner,
            ids=served.dialect.ids,
            placeholders=served.dialect.placeholders,
        )
        ask = Ask(
            written.query,
            written.documents,
            written.instruction if served.dialect.instruction else None,
            served.model,
            served.labels,
        )
        values = await self._ask(served, ask)
        self._failures, self.rests_until = 0, 0.0
        return Scores(values, written.truncated)

    async def honours_instruction(self) -> bool:
        """Return whether this server reads an instruction; asked once, where it is not certain."""
        served = await self.settle()
        if served.owner == "client":
            return True
        if not served.dialect.instruction:
            return False
        async with self._probing:
            if self._honours is None:
                query, texts = PROBES[0]
                plain, other = await asyncio.gather(
                    self.score(query, texts, None), self.score(query, texts, _OTHER_INSTRUCTION)
                )
                pairs = zip(plain.values, other.values, strict=True)
                self._honours = any(abs(logit(a) - logit(b)) > _NOISE for a, b in pairs)
            return self._honours

    def fail(self, error: RetryableError) -> None:
        """Back off: for as long as the server asks, else longer with every failure in a row."""
        now = monotonic()
        if now >= self.rests_until:  # failures of requests in flight together count as one
            self._failures += 1
        doublings = min(self._failures - 1, _MOST_DOUBLINGS)
        rest = min(_LONGEST_REST, _FIRST_REST * 2**doublings)
        until = now + (rest if error.after is None else error.after)
        self.rests_until = max(self.rests_until, until)

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
        )
        return await detector.run()

    async def _ask(self, served: Route, ask: Ask) -> list[float]:
        call = served.dialect.build(ask)
        answer = await self._client.post(call.path or served.path, call.body)
        values = served.dialect.parse(answer, len(ask.documents))
        if served.logits:
            return [sigmoid(value) for value in values]
        for place, value in enumerate(values):
            # A float's last digit may stand above 1.
            if not -1e-6 <= value <= 1 + 1e-6:
                raise AnswerError(
                    f"{self.address.url} gave document {place} the score {value!r}, which is no "
                    "probability: it answers log-odds, or is no reranker"
                )
        return [min(max(value, 0.0), 1.0) for value in values]


# Any text that means something else will do.
_OTHER_INSTRUCTION = "Given a city, find the recipe of a dish that people cook there on Sundays"
# Of logit. Repeats differ by less on servers that compute in fp32, the instruction by far more.
_NOISE = 1e-3


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
