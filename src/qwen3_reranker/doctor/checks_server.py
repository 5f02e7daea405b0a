"""What a server does with instructions, control tokens, long documents, repeats and batches."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from statistics import median

from qwen3_reranker.doctor.checks_scores import client_can_write
from qwen3_reranker.doctor.diagnostic_client import Answer, DiagnosticClient, Probed
from qwen3_reranker.doctor.findings import Finding, Status, finding_for_code
from qwen3_reranker.errors import RerankerError, ServerError
from qwen3_reranker.model.probe import NEGATION, PROBES, InstructionEffect, logit, sigmoid
from qwen3_reranker.model.prompt import SUFFIX, TextWriter
from qwen3_reranker.remote.detection import Route
from qwen3_reranker.remote.endpoint import split
from qwen3_reranker.remote.transport import RetryableError, TooLargeError

__all__ = ["Workings", "tried"]

_QUERY, _TEXTS = PROBES[0]
_RIGHT, _WRONG = _TEXTS[0], _TEXTS[2]
_MANY = 32
# Of log-odds, and of probability: both for a warning, for near 0 and 1 the first is coarse.
_MOVED, _MOVED_VISIBLY = 0.1, 0.01
_SLOW = 5.0
_FILLER = " Bread is baked from flour and water."
_FILLER_TOKENS = 8
_LONGEST = 16384


class Workings:
    """
    Asks one way how it works.

    Args:
        server: The server.
        probed: The way.
        raw: A way to score whole prompts on the same server, if there is one.
    """

    def __init__(self, server: DiagnosticClient, probed: Probed, raw: Route | None) -> None:
        self._server = server
        self._route = probed.route
        self._raw = raw
        self._logits = probed.outcome.logits

    async def instruction(self) -> Finding:
        """Return whether an instruction changes scores."""
        route = self._route
        if route.template_by == "server" and not route.dialect.instruction:
            return self._ignored(f"{route.dialect.name} has no field for one")
        query, texts = PROBES[1]
        plain, repeat = [await self._probabilities(query, texts) for _ in range(2)]
        try:
            other = await self._probabilities(query, texts, NEGATION)
        except RetryableError as error:
            if error.passing:
                raise
            return self._ignored(f"a request with one is refused: {error}"[:300])
        except ServerError as error:
            return self._ignored(f"a request with one is refused: {error}"[:300])
        effect = InstructionEffect.measure(plain, repeat, other)
        seen = f"its opposite moves log-odds by up to {effect.moved:.2g}, a repeat by {effect.noise:.1g}"
        return _ok("instruction", f"honored: {seen}") if effect.honored else self._ignored(seen)

    async def control_tokens(self) -> Finding:
        """Return whether control tokens in a text are read as such, by the tokens counted."""
        route = self._route
        counts = route.dialect.counts or route.dialect.name == "sglang-score"
        if not counts:
            return _unknown("control tokens", f"{route.dialect.name} counts no tokens to tell by")
        plain = await self._raw_text(_WRONG)
        loaded = await self._raw_text(_WRONG + " <|im_end|>" * 8)
        if plain.tokens is None or loaded.tokens is None:
            return _unknown("control tokens", "the answers have no token count")
        more = (loaded.tokens - plain.tokens) / 8
        if more > _SPELLED:
            return _ok("control tokens", f"read as text: {more:.2g} tokens for one")
        found = f"<|im_end|> in a document is read as the control token ({more:.2g} tokens)"
        if route.dialect.ids and route.encoder.builder is not None:
            return _ok("control tokens", f"{found}; token ids are sent, in which there is none")
        return finding_for_code(
            "server", "control tokens", "control-tokens", found, status="warning"
        )

    async def truncation(self) -> Finding:
        """Return what becomes of a document that is too long."""
        limit = self._route.server_info.max_length or self._route.encoder.max_length
        if limit > _LONGEST:
            return _unknown("truncation", f"not tried: the server takes {limit} tokens")
        long = _long(_RIGHT, int(1.3 * limit) + 100)
        try:
            answer = await self._raw_text(long)
        except TooLargeError as error:
            return self._refused(str(error))
        except ServerError as error:
            if isinstance(error, RetryableError) and error.status is None:
                raise
            return self._refused(str(error))
        odds = self._log_odds(answer)[0]
        return await self._cut(odds, limit) or await self._cut_apart(odds, limit)

    async def repeats(self) -> tuple[Finding, float]:
        """Return whether equal requests, alone and in batches, get equal scores; and the noise."""
        texts = [*_TEXTS, *_many(_MANY - len(_TEXTS))]
        together = [await self._odds(_QUERY, _TEXTS) for _ in range(3)]
        alone = [(await self._odds(_QUERY, [text]))[0] for text in _TEXTS]
        crowd = (await self._in_parts(_QUERY, texts))[0][: len(_TEXTS)]
        over_repeats = max(_furthest(together[0], other) for other in together[1:])
        over_batches = max(_furthest(together[0], alone), _furthest(together[0], crowd))
        found = (
            f"log-odds move by {over_repeats:.1g} over repeats, {over_batches:.1g} over batches of "
            f"1, {len(_TEXTS)} and {_MANY}"
        )
        noise = max(over_repeats, over_batches)
        if noise <= _MOVED or _visibly([together, [alone, crowd]]) <= _MOVED_VISIBLY:
            return _ok("determinism", found), noise
        return finding_for_code(
            "server", "determinism", "not-deterministic", found, status="warning"
        ), noise

    async def latency(self) -> Finding:
        """Return how long one pair and many take."""
        one = median(
            [(await self._server.ask(self._route, _QUERY, [_RIGHT])).seconds for _ in "123"]
        )
        _, many = await self._in_parts(_QUERY, _many(_MANY, start=1000))
        found = f"{1000 * one:.0f} ms for one pair, {1000 * many:.0f} ms for {_MANY}"
        if one > _SLOW:
            return finding_for_code("server", "latency", "slow", found, status="warning")
        return _ok("latency", found)

    async def _odds(
        self, query: str, texts: Sequence[str], instruction: str | None = None
    ) -> list[float]:
        return self._log_odds(await self._server.ask(self._route, query, texts, instruction))

    async def _probabilities(
        self, query: str, texts: Sequence[str], instruction: str | None = None
    ) -> list[float]:
        values = (await self._server.ask(self._route, query, texts, instruction)).values
        return [sigmoid(value) for value in values] if self._logits else values

    def _log_odds(self, answer: Answer) -> list[float]:
        return answer.values if self._logits else [logit(p) for p in answer.values]

    async def _in_parts(self, query: str, texts: Sequence[str]) -> tuple[list[float], float]:
        """Return the log-odds of many texts and the seconds, in as few requests as may be."""
        odds: list[float] = []
        seconds = 0.0
        for run in split(query, texts, self._route.dialect.limits):
            answer = await self._server.ask(self._route, query, texts[run.start : run.stop])
            odds += self._log_odds(answer)
            seconds += answer.seconds
        return odds, seconds

    async def _raw_text(self, text: str, *, suffix: str = SUFFIX) -> Answer:
        """Score a text as it is: as text, neither cut nor made harmless."""
        if self._route.template_by == "server":
            return await self._server.send(self._route, _QUERY, [text])
        writer = TextWriter()
        tail = writer.tail(text).removesuffix(SUFFIX) + suffix
        return await self._server.send(self._route, writer.head(_QUERY), [tail])

    async def _whole(self, text: str, suffix: str) -> float | None:
        """Return the log-odds of a whole prompt, where there is a way to score one."""
        writer = TextWriter()
        prompt = writer.head(_QUERY) + writer.tail(text).removesuffix(SUFFIX) + suffix
        if self._route.template_by == "client":
            return self._log_odds(await self._raw_text(text, suffix=suffix))[0]
        if self._raw is None:
            return None
        answer = await self._server.ask_whole(self._raw, [prompt])
        return logit(answer.values[0])

    async def _cut(self, odds: float, limit: int) -> Finding | None:
        """Tell a whole prompt that was cut by how prompts with and without suffix score."""
        fitting = _long(_RIGHT, limit // 2)
        kept, lost = await self._whole(fitting, SUFFIX), await self._whole(fitting, "")
        if kept is None or lost is None or abs(kept - lost) < 1:
            return None
        seen = f"log-odds {odds:.2f}; {kept:.2f} with the suffix, {lost:.2f} without"
        if abs(odds - lost) < abs(odds - kept) / 2:
            return self._suffix_cut(seen)
        if abs(odds - kept) < abs(odds - lost) / 2:
            return _ok("truncation", f"a long document is cut, and the suffix stays ({seen})")
        return None

    async def _cut_apart(self, odds: float, limit: int) -> Finding:
        """Tell it by whether long documents are still judged."""
        short = [_long(text, limit // 4) for text in (_RIGHT, _WRONG)]
        judged = self._log_odds(await self._server.ask(self._route, _QUERY, short))
        wrong = self._log_odds(await self._raw_text(_long(_WRONG, int(1.3 * limit) + 100)))[0]
        seen = (
            f"right and irrelevant are {odds - wrong:.2f} apart in log-odds when too long, "
            f"{judged[0] - judged[1]:.2f} when shorter"
        )
        if judged[0] - judged[1] > 2 and odds - wrong < (judged[0] - judged[1]) / 10:
            return self._suffix_cut(seen)
        if odds - wrong > (judged[0] - judged[1]) / 4 > 0:
            return _ok("truncation", f"a long document is cut, and still judged ({seen})")
        return _unknown("truncation", f"a long document is cut; where cannot be told ({seen})")

    def _suffix_cut(self, seen: str) -> Finding:
        can_cut = self._route.encoder.can_cut
        found = f"a prompt that is too long is cut in silence, its suffix with it ({seen})"
        more = "This client cuts documents itself, before that; others must." if can_cut else ""
        status: Status = "warning" if can_cut else "problem"
        return finding_for_code(
            "server", "truncation", "suffix-cut", found, status=status, more=more
        )

    def _refused(self, message: str) -> Finding:
        found = f"a prompt that is too long is refused: {message[:200]}"
        if self._route.encoder.can_cut:
            return _ok("truncation", f"{found}; this client cuts documents before")
        return finding_for_code("server", "truncation", "too-long", found, status="warning")

    def _ignored(self, why: str) -> Finding:
        return finding_for_code(
            "server",
            "instruction",
            "instruction-ignored",
            f"ignored: {why}",
            status="warning",
            client_can_write=client_can_write(self._route.dialect),
        )


async def tried(check: str, finding: Awaitable[Finding]) -> Finding:
    """Await a check's finding; what fails is unknown, with the reason."""
    try:
        return await finding
    except RerankerError as error:
        return _unknown(check, str(error)[:300])


def _long(text: str, tokens: int) -> str:
    return text + _FILLER * max(1, tokens // _FILLER_TOKENS)


def _many(count: int, start: int = 0) -> list[str]:
    return [f"Note {start + place}: {_TEXTS[place % len(_TEXTS)]}" for place in range(count)]


def _furthest(one: Sequence[float], other: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _visibly(groups: Sequence[Sequence[Sequence[float]]]) -> float:
    """Return by how much probabilities move."""
    rows = [[sigmoid(x) for x in row] for group in groups for row in group]
    return max(_furthest(rows[0], row) for row in rows[1:])


def _ok(check: str, found: str) -> Finding:
    return Finding("server", check, "ok", found)


def _unknown(check: str, found: str) -> Finding:
    return Finding("server", check, "unknown", found)


# A control token is one token and its blank another; spelled out it is six and more.
_SPELLED = 4.0
