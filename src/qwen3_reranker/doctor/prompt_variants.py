"""
The ways in which prompts go wrong, written out, so that a server can be asked which one it scores.

A server that scores whatever prompt it is sent tells how each variant scores there; an endpoint of
the same server that writes the prompt itself wrote the variant whose scores it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qwen3_reranker.model.probe import logit
from qwen3_reranker.model.prompt import DEFAULT_INSTRUCTION, PREFIX, SUFFIX, TextWriter, head_text

__all__ = ["RIGHT", "VARIANTS", "Rows", "Variant", "distance", "nearest"]

Rows = Sequence[Sequence[float]]
"""Probabilities, a list a query."""


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One way to write a prompt.

    Attributes:
        code: What is wrong with it, None for the right one.
        what: The same for people to read.
        write: Writes it for a query and a document.
    """

    code: str | None
    what: str
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
_STOP = DEFAULT_INSTRUCTION + "."

RIGHT = Variant(None, "as the model card writes it", _whole)
VARIANTS: tuple[Variant, ...] = (
    RIGHT,
    Variant("template-missing", "query and document with nothing around", lambda q, d: q + d),
    Variant("template-missing", "query and document on two lines", lambda q, d: f"{q}\n{d}"),
    Variant("template-twice", "a template around a written prompt", _twice),
    Variant(
        "template-twice",
        "a template around a written prompt whose control tokens it breaks up",
        _twice_escaped,
    ),
    Variant("newline-lost", "one newline at the end, not two", lambda q, d: _whole(q, d)[:-1]),
    Variant("newline-lost", "no newline at the end", lambda q, d: _whole(q, d)[:-2]),
    Variant("think-missing", "no think block", lambda q, d: PREFIX + _user(q, d) + _NO_THINK),
    Variant(
        "think-missing",
        "no think block, and no newline behind 'assistant'",
        lambda q, d: PREFIX + _user(q, d) + _NO_THINK[:-1],
    ),
    Variant(
        "think-missing",
        "no think block, and a full stop behind the default instruction",
        lambda q, d: PREFIX + _user(q, d, _STOP) + _NO_THINK,
    ),
    Variant("suffix-cut", "nothing behind the document", lambda q, d: PREFIX + _user(q, d)),
    Variant(
        "template-differs",
        "a full stop behind the default instruction",
        lambda q, d: PREFIX + _user(q, d, _STOP) + SUFFIX,
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
        "no system text",
        lambda q, d: "<|im_start|>user\n" + _user(q, d) + SUFFIX,
    ),
)
"""The right one first."""

# Beyond this log-odds are the last digits of a float.
_EDGE = 8.0


def distance(one: Rows, other: Rows) -> float:
    """Return the largest difference of two rows of scores, in log-odds."""
    pairs = ((a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
    return max(abs(_bounded(a) - _bounded(b)) for a, b in pairs)


def nearest(scores: Rows, variants: Mapping[int, Rows], noise: float) -> Variant | None:
    """
    Return the variant whose scores these are, None where they are no variant's.

    Args:
        scores: What the endpoint gave.
        variants: Each variant's scores, by its place in `VARIANTS`.
        noise: By how much the scores of one and the same prompt differ there.
    """
    distances = {place: distance(scores, rows) for place, rows in variants.items()}
    best = min(distances, key=lambda place: distances[place])
    if distances[best] > max(_FAR, 3 * noise):
        return None
    # The right one needs no proof that it is nearer than all others; a wrong one does.
    right = distances[0] <= max(_CLOSE, 3 * noise) or distances[0] < 3 * distances[best]
    return VARIANTS[0 if right else best]


_CLOSE = 1e-3
_FAR = 0.25


def _bounded(p: float) -> float:
    return min(max(logit(p), -_EDGE), _EDGE)
