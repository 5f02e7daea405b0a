"""
The probe: two questions with obvious answers, and what their scores tell about a backend.

A reranker whose template is right scores each answer far above the two irrelevant passages. Without
the template, or with the template twice, the scores are close together or in the wrong order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_reranker.model.probability import is_probability, logit, sigmoid

__all__ = [
    "NEGATION",
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
"""
Queries with their passages, of which the first answers the query.

The queries and the first two passages are those of the model card.
"""

NEGATION = (
    "Retrieve documents that are not about the query, are irrelevant to it and do not answer it"
)
"""An instruction that means the opposite of the default one."""

# The minimum difference between the scores of a right and an irrelevant passage. The demo model,
# which separates them less than the real models, was measured at 3.3 in logits and 0.67 in
# probability with its template, at most 1.0 and 0.15 with the template twice, and below zero
# without it. One of the two differences is enough, because a service may compress its scores.
_LOGIT = 1.5
_PROBABILITY = 0.3
# A relevant passage always scores above this, unless the model's head is missing. Without a head,
# llama.cpp's scores are about 1e-20 in builds of 2025 and 1e-4 in b11549.
_NEXT_TO_ZERO = 1e-3
# Scores that differ from 0.5 by less are 0.5, and scores that differ by less are the same number.
_SAME = 1e-6
_IDENTICAL = 1e-9
# Tokens per pair. A pair has 22 tokens on average, and the template adds 60 to 80.
_TEMPLATED = 60
_DOUBLED = 130
# `NEGATION` changes the demo model's log-odds for `PROBES[1]` by 0.9 to 1.4, in fp32 and in bf16,
# and those of the real models by more. The noise of bf16, between batches, is at most 0.13.
_LEAST_EFFECT = 0.25
_TIMES_NOISE = 4
# The largest bf16 number below 1. Above it, one digit is a large difference of log-odds.
_HIGHEST = 0.996


@dataclass(frozen=True, slots=True)
class InstructionEffect:
    """
    The effect of another instruction on the scores of the same texts.

    Attributes:
        moved: The largest difference in log-odds between the two instructions.
        noise: The largest difference in log-odds between two equal requests.
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
            repeat: P(yes) of each text when the same request is repeated.
            other: P(yes) of each text with another instruction.
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
    The scores of the probe.

    Attributes:
        scores: P(yes) of the passages of each query, the right passage first.
        tokens: The number of prompt tokens that the server counted. None if it does not say.
        logits: Whether the raw scores were log-odds.
    """

    scores: tuple[tuple[float, ...], ...]
    tokens: int | None = None
    logits: bool = False

    @classmethod
    def read(cls, raw: Sequence[Sequence[float]], tokens: int | None, *, logits: bool) -> Outcome:
        """
        Build from raw scores. If one lies outside [0, 1], all are treated as logits.

        Args:
            raw: The scores of the passages of each query, as they were received.
            tokens: The number of prompt tokens that the server counted. None if it does not say.
            logits: Whether the scores are known to be log-odds.
        """
        flat = [score for row in raw for score in row]
        logits = logits or not all(map(is_probability, flat))
        scores = tuple(tuple(sigmoid(x) if logits else x for x in row) for row in raw)
        return cls(scores, tokens, logits)

    @property
    def margin(self) -> float:
        """The smallest difference in logits between a right passage and an irrelevant one."""
        return min(logit(row[0]) - logit(max(row[1:])) for row in self.scores)

    @property
    def passed(self) -> bool:
        """Whether every right passage scores clearly higher than the irrelevant ones."""
        least = min(row[0] - max(row[1:]) for row in self.scores)
        return self.margin >= _LOGIT or least >= _PROBABILITY

    @property
    def may_be_cosines(self) -> bool:
        """Whether these may be cosine similarities, which are never close to 1 for the probe."""
        return not self.logits and max(score for row in self.scores for score in row) < 0.99

    @property
    def templated(self) -> bool | None:
        """Whether the server added a template to plain texts, judging by the tokens counted."""
        if self.tokens is None:
            return None
        return self.tokens >= _TEMPLATED * sum(len(row) for row in self.scores)

    @property
    def doubled(self) -> bool:
        """Whether the server added a template to whole prompts, judging by the tokens counted."""
        pairs = sum(len(row) for row in self.scores)
        return self.tokens is not None and self.tokens >= _DOUBLED * pairs

    def __str__(self) -> str:
        rows = (f"{row[0]:.3g} against {row[1]:.3g} and {row[2]:.3g}" for row in self.scores)
        return "; ".join(rows)

    @property
    def all_half(self) -> bool:
        """Whether all scores are 0.5, as without a classifier's head."""
        return all(abs(score - 0.5) < _SAME for row in self.scores for score in row)

    @property
    def next_to_zero(self) -> bool:
        """Whether all scores are almost 0, as with a GGUF file that has no head."""
        return max(score for row in self.scores for score in row) < _NEXT_TO_ZERO

    @property
    def identical(self) -> bool:
        """Whether all scores are the same number, so that the model sees no text."""
        flat = [score for row in self.scores for score in row]
        return max(flat) - min(flat) < _IDENTICAL

    @property
    def inverted(self) -> bool:
        """Whether the scores would pass as P(no) instead of P(yes)."""
        other = Outcome(tuple(tuple(1 - p for p in row) for row in self.scores))
        return other.passed and not self.passed

    @property
    def problem(self) -> str:
        """The code in `PROBLEMS` of what scores that did not pass look like."""
        if self.all_half:
            return "all-half"
        if self.next_to_zero:
            return "next-to-zero"
        if self.identical:
            return "identical-scores"
        return "labels-inverted" if self.inverted else "no-separation"


def alike(a: float, b: float) -> bool:
    """Return whether two scores are equal up to the noise of low precision."""
    return abs(a - b) <= 0.005 or abs(logit(a) - logit(b)) <= 0.15
