"""
The known mistakes in prompts, and how to find out which of them a server makes.

Each variant is sent to an endpoint that scores prompts as they are. If another endpoint of the same
server writes the prompt itself, comparing its scores with these shows which variant it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qwen3_reranker.model.probability import log_odds_distance, logit
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION, PREFIX, SUFFIX, TextWriter, head_text

__all__ = ["RIGHT", "VARIANTS", "Rows", "Variant", "distance", "nearest"]

Rows = Sequence[Sequence[float]]
"""Scores of passages, one list per query."""


@dataclass(frozen=True, slots=True)
class Variant:
    """
    A form of the prompt: the correct one, or one with a known mistake.

    Attributes:
        code: The code of its problem; None for the correct prompt.
        description: The form in words, for messages.
        write: Returns the prompt for a query and a document.
    """

    code: str | None
    description: str
    write: Callable[[str, str], str]


def _user(query: str, document: str, instruction: str = DEFAULT_INSTRUCTION) -> str:
    return f"{head_text(query, instruction)}<Document>: {document}"


def _whole(query: str, document: str) -> str:
    return PREFIX + _user(query, document) + SUFFIX


def _twice(query: str, document: str) -> str:
    head = PREFIX + head_text(query, DEFAULT_INSTRUCTION)
    return _whole(head, f"<Document>: {document}{SUFFIX}")


def _twice_escaped(query: str, document: str) -> str:
    writer = TextWriter()
    head = PREFIX + head_text(query, DEFAULT_INSTRUCTION)
    return _whole(
        writer.escape_control_tokens(head),
        writer.escape_control_tokens(f"<Document>: {document}{SUFFIX}"),
    )


_NO_THINK = SUFFIX[: SUFFIX.index("<think>")]
_WITH_STOP = DEFAULT_INSTRUCTION + "."

RIGHT = Variant(None, "as in the model card", _whole)
VARIANTS: tuple[Variant, ...] = (
    RIGHT,
    Variant("template-missing", "nothing but query and document", lambda q, d: q + d),
    Variant(
        "template-missing", "nothing but query and document on two lines", lambda q, d: f"{q}\n{d}"
    ),
    Variant("template-twice", "a template around a complete prompt", _twice),
    Variant(
        "template-twice",
        "a template around a complete prompt whose control tokens are escaped",
        _twice_escaped,
    ),
    Variant(
        "newline-lost", "one newline at the end instead of two", lambda q, d: _whole(q, d)[:-1]
    ),
    Variant("newline-lost", "no newline at the end", lambda q, d: _whole(q, d)[:-2]),
    Variant("think-missing", "no think block", lambda q, d: PREFIX + _user(q, d) + _NO_THINK),
    Variant(
        "think-missing",
        "no think block and no newline after 'assistant'",
        lambda q, d: PREFIX + _user(q, d) + _NO_THINK[:-1],
    ),
    Variant(
        "think-missing",
        "no think block and a period after the default instruction",
        lambda q, d: PREFIX + _user(q, d, _WITH_STOP) + _NO_THINK,
    ),
    Variant("suffix-cut", "nothing after the document", lambda q, d: PREFIX + _user(q, d)),
    Variant(
        "template-differs",
        "a period after the default instruction",
        lambda q, d: PREFIX + _user(q, d, _WITH_STOP) + SUFFIX,
    ),
    Variant(
        "template-differs",
        "empty lines between instruction, query and document",
        lambda q, d: (
            f"{PREFIX}<Instruct>: {DEFAULT_INSTRUCTION}\n\n<Query>: {q}\n\n<Document>: {d}{SUFFIX}"
        ),
    ),
    Variant(
        "template-differs",
        "no system message",
        lambda q, d: "<|im_start|>user\n" + _user(q, d) + SUFFIX,
    ),
)
"""The correct prompt first, then the wrong ones."""

# How far scores may be from a variant's, in log-odds: to count as equal, and to be compared at all.
_CLOSE, _FAR = 1e-3, 0.25


def distance(first: Rows, second: Rows) -> float:
    """Return the largest difference between two lists of probabilities, in log-odds."""
    rows = zip(first, second, strict=True)
    pairs = ((a, b) for one, other in rows for a, b in zip(one, other, strict=True))
    return max(log_odds_distance(logit(a), logit(b)) for a, b in pairs)


def nearest(scores: Rows, variants: Mapping[int, Rows], noise: float) -> Variant | None:
    """
    Return the variant whose scores are nearest to those of an endpoint.

    Args:
        scores: The probabilities that an endpoint gave.
        variants: The probabilities of each variant, by its index in `VARIANTS`; 0 is among them.
        noise: The largest difference between the log-odds of equal prompts.

    Returns:
        The variant; None if the scores are those of no variant.
    """
    distances = {index: distance(scores, rows) for index, rows in variants.items()}
    best = min(distances, key=lambda index: distances[index])
    if distances[best] > max(_FAR, 3 * noise):
        return None
    # The correct prompt is preferred unless a wrong one is clearly nearer.
    correct = distances[0] <= max(_CLOSE, 3 * noise) or distances[0] < 3 * distances[best]
    return VARIANTS[0 if correct else best]
