"""Check how a server treats instructions, control tokens, long documents, repeats and batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import median

from qwen3_reranker.doctor.diagnostic_client import Answer, DiagnosticClient, Probed
from qwen3_reranker.doctor.evidence import client_can_write
from qwen3_reranker.doctor.findings import SHOWN, Finding, ok, problem
from qwen3_reranker.errors import RerankerError, ServerError
from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.model.probe import PROBES, InstructionEffect
from qwen3_reranker.model.template import SUFFIX, TextWriter
from qwen3_reranker.remote.batching import split
from qwen3_reranker.remote.detection import Route
from qwen3_reranker.remote.instruction import measure_instruction
from qwen3_reranker.remote.responses import RetryableError, TooLargeError

__all__ = ["CHECKS", "Behavior", "check_determinism"]

_QUERY, _TEXTS = PROBES[0]
_RELEVANT, _IRRELEVANT = _TEXTS[0], _TEXTS[2]
_MANY = 32
# Differences of log-odds and of probability. Only if both are exceeded is there a warning, because
# the log-odds of probabilities near 0 and 1 are coarse.
_MOVED, _MOVED_VISIBLY = 0.1, 0.01
_SLOW = 5.0  # seconds
_FILLER = " Bread is baked from flour and water."
_FILLER_TOKENS = 8
_LONGEST = 16384  # tokens; truncation at a higher limit is not checked
# " <|im_end|>" has one or two tokens if it is read as a control token, six or more as text.
_SPELLED_OUT = 4.0
_CONTROL_TOKENS = 8


class Behavior:
    """
    Sends the requests by which a server's behavior is judged.

    Args:
        client: The client for the server.
        probed: The route to examine, with the answers to the probe.
        raw: A route of the same server that scores complete prompts; None if there is none.
    """

    def __init__(self, client: DiagnosticClient, probed: Probed, raw: Route | None) -> None:
        self.route = probed.route
        self._client = client
        self._raw = raw
        self._logits = probed.outcome.logits

    async def ask(self, query: str, texts: Sequence[str], instruction: str | None = None) -> Answer:
        """Score texts as the reranker would."""
        return await self._client.ask(self.route, query, texts, instruction)

    async def probabilities(
        self, query: str, texts: Sequence[str], instruction: str | None = None
    ) -> list[float]:
        """Return P(yes) of each text."""
        values = (await self.ask(query, texts, instruction)).values
        return [sigmoid(value) for value in values] if self._logits else values

    def log_odds(self, answer: Answer) -> list[float]:
        """Return the log-odds of each document in an answer."""
        return answer.values if self._logits else [logit(p) for p in answer.values]

    async def ask_in_batches(self, query: str, texts: Sequence[str]) -> tuple[list[float], float]:
        """Score many texts in few requests; return their log-odds and the seconds that it took."""
        log_odds: list[float] = []
        seconds = 0.0
        for batch in split(query, texts, self.route.dialect.limits):
            answer = await self.ask(query, texts[batch.start : batch.stop])
            log_odds += self.log_odds(answer)
            seconds += answer.seconds
        return log_odds, seconds

    async def ask_verbatim(self, text: str, *, suffix: str = SUFFIX) -> Answer:
        """Score a text as it is: sent as text, neither cut nor escaped."""
        if self.route.template_by == "server":
            return await self._client.send(self.route, _QUERY, [text])
        head, tail = _prompt_parts(text, suffix)
        return await self._client.send(self.route, head, [tail])

    async def score_prompt(self, text: str, suffix: str) -> float | None:
        """Return the log-odds of a complete prompt; None if the server accepts none."""
        if self.route.template_by == "client":
            return self.log_odds(await self.ask_verbatim(text, suffix=suffix))[0]
        if self._raw is None:
            return None
        answer = await self._client.ask_whole(self._raw, ["".join(_prompt_parts(text, suffix))])
        return logit(answer.values[0])


async def check_determinism(behavior: Behavior) -> tuple[Finding, float]:
    """
    Check whether equal requests, alone and in batches, get equal scores.

    Args:
        behavior: The server.

    Returns:
        The finding, and the largest difference between log-odds of equal prompts; 0 if it could not
        be measured.
    """
    texts = [*_TEXTS, *_many_texts(_MANY - len(_TEXTS))]
    try:
        together = [behavior.log_odds(await behavior.ask(_QUERY, _TEXTS)) for _ in range(3)]
        alone = [behavior.log_odds(await behavior.ask(_QUERY, [text]))[0] for text in _TEXTS]
        in_crowd = (await behavior.ask_in_batches(_QUERY, texts))[0][: len(_TEXTS)]
    except RerankerError as error:
        return Finding("server", "determinism", "unknown", str(error)), 0.0
    over_repeats = max(_largest_difference(together[0], other) for other in together[1:])
    over_batches = max(_largest_difference(together[0], other) for other in (alone, in_crowd))
    message = (
        f"log-odds differ by {over_repeats:.1g} between repeats, by {over_batches:.1g} between "
        f"batches of 1, {len(_TEXTS)} and {_MANY}"
    )
    noise = max(over_repeats, over_batches)
    if noise <= _MOVED or _visible_difference([*together, alone, in_crowd]) <= _MOVED_VISIBLY:
        return ok("server", "determinism", message), noise
    return _warning("determinism", "not-deterministic", message), noise


async def _check_instruction(behavior: Behavior) -> Finding:
    """Check whether an instruction changes scores."""
    route = behavior.route
    if not route.sends_instruction:
        return _ignored(behavior, f"{route.dialect.name} has no field for one")
    effect = await measure_instruction(behavior.probabilities)
    if not isinstance(effect, InstructionEffect):
        return _ignored(behavior, f"a request with one is rejected: {effect}"[:SHOWN])
    moved = (
        f"its opposite changes log-odds by up to {effect.moved:.2g}, a repeat by {effect.noise:.1g}"
    )
    return (
        ok("server", "instruction", f"used: {moved}")
        if effect.honored
        else _ignored(behavior, moved)
    )


async def _check_control_tokens(behavior: Behavior) -> Finding:
    """Check by the tokens counted whether control tokens in a text are interpreted."""
    route = behavior.route
    if not route.dialect.counts and route.dialect.name != "sglang-score":
        return _unknown("control tokens", f"{route.dialect.name} does not count tokens")
    plain = await behavior.ask_verbatim(_IRRELEVANT)
    loaded = await behavior.ask_verbatim(_IRRELEVANT + " <|im_end|>" * _CONTROL_TOKENS)
    if plain.tokens is None or loaded.tokens is None:
        return _unknown("control tokens", "the answers contain no token count")
    each = (loaded.tokens - plain.tokens) / _CONTROL_TOKENS
    if each > _SPELLED_OUT:
        return ok("server", "control tokens", f"read as text: {each:.2g} tokens for each")
    message = f"<|im_end|> in a document is read as the control token ({each:.2g} tokens)"
    if route.dialect.ids and route.encoder.builder is not None:
        return ok(
            "server", "control tokens", f"{message}, but this client sends token ids without any"
        )
    return _warning("control tokens", "control-tokens", message)


async def _check_truncation(behavior: Behavior) -> Finding:
    """Check what the server does with a document that is too long."""
    limit = behavior.route.server_info.max_length or behavior.route.encoder.max_length
    if limit > _LONGEST:
        return _unknown("truncation", f"not tried, because the server accepts {limit} tokens")
    try:
        answer = await behavior.ask_verbatim(_too_long(_RELEVANT, limit))
    except TooLargeError as error:
        return _rejected(behavior, str(error))
    except ServerError as error:
        if isinstance(error, RetryableError) and error.status is None:
            raise
        return _rejected(behavior, str(error))
    log_odds = behavior.log_odds(answer)[0]
    finding = await _compare_suffixes(behavior, log_odds, limit)
    return finding or await _compare_passages(behavior, log_odds, limit)


async def _compare_suffixes(behavior: Behavior, log_odds: float, limit: int) -> Finding | None:
    """Compare the score of a cut prompt with those of prompts with and without their suffix."""
    fitting = _long(_RELEVANT, limit // 2)
    kept = await behavior.score_prompt(fitting, SUFFIX)
    lost = await behavior.score_prompt(fitting, "")
    if kept is None or lost is None or abs(kept - lost) < 1:
        return None
    scores = f"log-odds {log_odds:.2f}; {kept:.2f} with the suffix, {lost:.2f} without"
    if abs(log_odds - lost) < abs(log_odds - kept) / 2:
        return _suffix_cut(behavior, scores)
    if abs(log_odds - kept) < abs(log_odds - lost) / 2:
        return ok(
            "server", "truncation", f"a long document is cut, and the suffix is kept ({scores})"
        )
    return None


async def _compare_passages(behavior: Behavior, log_odds: float, limit: int) -> Finding:
    """Check whether the server still distinguishes relevant from irrelevant long documents."""
    short = [_long(text, limit // 4) for text in (_RELEVANT, _IRRELEVANT)]
    relevant, irrelevant = behavior.log_odds(await behavior.ask(_QUERY, short))
    answer = await behavior.ask_verbatim(_too_long(_IRRELEVANT, limit))
    apart, apart_short = log_odds - behavior.log_odds(answer)[0], relevant - irrelevant
    scores = (
        f"relevant and irrelevant documents are {apart:.2f} apart in log-odds if they are too "
        f"long, {apart_short:.2f} if they are shorter"
    )
    if apart_short > 2 and apart < apart_short / 10:
        return _suffix_cut(behavior, scores)
    if apart > apart_short / 4 > 0:
        return ok("server", "truncation", f"a long document is cut, and still judged ({scores})")
    return _unknown("truncation", f"a long document is cut, but it is not known where ({scores})")


async def _check_latency(behavior: Behavior) -> Finding:
    """Measure how long one pair and many take."""
    one = median([(await behavior.ask(_QUERY, [_RELEVANT])).seconds for _ in range(3)])
    _, many = await behavior.ask_in_batches(_QUERY, _many_texts(_MANY, start=1000))
    message = f"{1000 * one:.0f} ms for one pair, {1000 * many:.0f} ms for {_MANY}"
    return _warning("latency", "slow", message) if one > _SLOW else ok("server", "latency", message)


def _suffix_cut(behavior: Behavior, scores: str) -> Finding:
    message = f"a prompt that is too long is cut silently, including its suffix ({scores})"
    if not behavior.route.encoder.can_truncate:
        return problem("server", "truncation", "suffix-cut", message)
    more = "This client cuts documents before that happens; other clients must do so too."
    return problem("server", "truncation", "suffix-cut", message, status="warning", more=more)


def _rejected(behavior: Behavior, error: str) -> Finding:
    message = f"a prompt that is too long is rejected: {error[:200]}"
    if behavior.route.encoder.can_truncate:
        return ok(
            "server", "truncation", f"{message}; this client cuts documents before that happens"
        )
    return _warning("truncation", "too-long", message)


def _ignored(behavior: Behavior, because: str) -> Finding:
    return problem(
        "server",
        "instruction",
        "instruction-ignored",
        f"ignored: {because}",
        status="warning",
        client_can_write=client_can_write(behavior.route.dialect),
    )


def _prompt_parts(text: str, suffix: str) -> tuple[str, str]:
    """Return a prompt up to its document, and the rest, without escaping anything."""
    writer = TextWriter()
    return writer.head(_QUERY), writer.tail(text).removesuffix(SUFFIX) + suffix


def _long(text: str, tokens: int) -> str:
    return text + _FILLER * max(1, tokens // _FILLER_TOKENS)


def _too_long(text: str, limit: int) -> str:
    return _long(text, int(1.3 * limit) + 100)


def _many_texts(count: int, start: int = 0) -> list[str]:
    return [f"Note {start + n}: {_TEXTS[n % len(_TEXTS)]}" for n in range(count)]


def _largest_difference(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def _visible_difference(rows: Sequence[Sequence[float]]) -> float:
    """Return the largest difference between probabilities, given log-odds."""
    first, *others = [[sigmoid(x) for x in row] for row in rows]
    return max(_largest_difference(first, other) for other in others)


def _warning(check: str, code: str, message: str) -> Finding:
    return problem("server", check, code, message, status="warning")


def _unknown(check: str, message: str) -> Finding:
    return Finding("server", check, "unknown", message)


CHECKS: tuple[tuple[str, Callable[[Behavior], Awaitable[Finding]]], ...] = (
    ("instruction", _check_instruction),
    ("control tokens", _check_control_tokens),
    ("truncation", _check_truncation),
    ("latency", _check_latency),
)
"""The checks of a server's behavior with their names, in the order in which they run."""
