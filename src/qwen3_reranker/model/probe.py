"""
The probe: two questions whose answers are obvious, and what their scores say about a server.

A reranker that gets its template right puts each answer far above the two irrelevant passages.
Without the template, or with it twice, the scores lie close together or in the wrong order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_reranker.model.probability import logit, sigmoid

__all__ = [
    "NEGATION",
    "NEXT_TO_ZERO",
    "PROBES",
    "InstructionEffect",
    "Outcome",
    "alike",
]

_CAPITAL = "The capital of China is Beijing."
_GRAVITY = (
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical "
    "objects and is responsible for the movement of planets around the sun."
)
_APPLE = "I want to eat an apple."

PROBES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is the capital of China?", (_CAPITAL, _GRAVITY, _APPLE)),
    ("Explain gravity", (_GRAVITY, _CAPITAL, _APPLE)),
)
"""Queries with their passages, the right one first; two are the model card's own."""

NEGATION = (
    "Retrieve documents that are not about the query, are irrelevant to it and do not answer it"
)
"""An instruction that means the opposite of the default one."""

# Measured on the demo model: 3.3 of logit and 0.67 of probability with its template, at most 1.0
# and 0.15 with it twice, less than nothing without it. The real models are farther apart. Either
# difference is enough, for a service may squeeze its scores.
_LOGIT = 1.5
_PROBABILITY = 0.3
# So far may a probability be off 0 or 1 by its last digit.
_ROUNDING = 1e-6
NEXT_TO_ZERO = 1e-3
"""
A score that no right passage gets from a working head.

Without a head llama.cpp's scores are about 1e-20 in builds of 2025 and 1e-4 in b11549.
"""
# A pair has 22 tokens here on the average; the template adds 60 to 80.
_TEMPLATED = 60
_DOUBLED = 130


# The demo model's log-odds for `PROBES[1]` move by 0.9 to 1.4 with `NEGATION`, in fp32 and in bf16;
# the real models' by more. What bf16 moves by itself, over batches, is at most 0.13.
_LEAST_EFFECT = 0.25
_TIMES_NOISE = 4
# The largest bf16 number below 1 is 0.996: above that, one digit is a large difference of log-odds.
_HIGHEST = 0.996


@dataclass(frozen=True, slots=True)
class InstructionEffect:
    """
    What another instruction does to the scores of the same texts.

    Attributes:
        moved: The largest difference of log-odds that the instruction made.
        noise: The largest difference of log-odds between two equal requests.
    """

    moved: float
    noise: float

    @classmethod
    def measure(
        cls, plain: Sequence[float], repeat: Sequence[float], other: Sequence[float]
    ) -> InstructionEffect:
        """
        Compare the probabilities of three requests.

        Args:
            plain: P(yes) of each text with the default instruction.
            repeat: The same request once more.
            other: The same texts with another instruction.
        """
        return cls(_furthest(plain, other), _furthest(plain, repeat))

    @property
    def honored(self) -> bool:
        """Whether the server reads the instruction."""
        return self.moved > max(_LEAST_EFFECT, _TIMES_NOISE * self.noise)


def _furthest(first: Sequence[float], second: Sequence[float]) -> float:
    pairs = zip(first, second, strict=True)
    return max(abs(logit(min(a, _HIGHEST)) - logit(min(b, _HIGHEST))) for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What a server answered to the probe.

    Attributes:
        scores: One list a query; the right passage's score first.
        tokens: How many prompt tokens it counted, None where it did not say.
        logits: Whether the scores were log-odds on the wire.
    """

    scores: tuple[tuple[float, ...], ...]
    tokens: int | None = None
    logits: bool = False

    @classmethod
    def read(cls, raw: Sequence[Sequence[float]], tokens: int | None, *, logits: bool) -> Outcome:
        """Build from raw scores; if any lies outside [0, 1], all are treated as logits."""
        flat = [score for row in raw for score in row]
        logits = logits or any(not -_ROUNDING <= score <= 1 + _ROUNDING for score in flat)
        scores = tuple(tuple(sigmoid(x) if logits else x for x in row) for row in raw)
        return cls(scores, tokens, logits)

    @property
    def margin(self) -> float:
        """The least difference in logit between a right passage and an irrelevant one."""
        return min(logit(row[0]) - logit(max(row[1:])) for row in self.scores)

    @property
    def passed(self) -> bool:
        """Whether every right passage stands clearly above the irrelevant ones."""
        least = min(row[0] - max(row[1:]) for row in self.scores)
        return self.margin >= _LOGIT or least >= _PROBABILITY

    @property
    def may_be_cosines(self) -> bool:
        """Whether these may be similarities of embeddings, which are never next to 1 here."""
        return not self.logits and max(score for row in self.scores for score in row) < 0.99

    @property
    def templated(self) -> bool | None:
        """Whether there was a template around the plain texts, by the tokens counted."""
        if self.tokens is None:
            return None
        return self.tokens >= _TEMPLATED * sum(len(row) for row in self.scores)

    @property
    def doubled(self) -> bool:
        """Whether a template stood around written prompts, by the tokens counted."""
        pairs = sum(len(row) for row in self.scores)
        return self.tokens is not None and self.tokens >= _DOUBLED * pairs

    def __str__(self) -> str:
        rows = (f"{row[0]:.3g} against {row[1]:.3g} and {row[2]:.3g}" for row in self.scores)
        return "; ".join(rows)

    def diagnosis(self) -> str:
        """Return what scores that did not pass look like, and where that comes from."""
        flat = [score for row in self.scores for score in row]
        if all(score == 0.5 for score in flat):
            return "all scores are 0.5: the classifier's head was not loaded (hf_overrides?)"
        if max(flat) < NEXT_TO_ZERO:
            return "all scores are next to 0: a GGUF file without its head or its template"
        if max(flat) - min(flat) < 1e-9:
            return f"all scores are {flat[0]:.3g}: the server does not see query and document"
        if all(row[0] < min(row[1:]) for row in self.scores):
            return (
                f"the order is upside down ({self}): labels swapped, or a number that is no score"
            )
        return f"the right passage hardly stands out ({self}): the template is missing or twice"


def alike(a: float, b: float) -> bool:
    """Return whether two scores are equal but for the noise of low precision."""
    return abs(a - b) <= 0.005 or abs(logit(a) - logit(b)) <= 0.15
