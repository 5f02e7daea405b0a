"""Requests whose right answers are known."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwen3_reranker import Reranker

from support.real_pairs import real_pairs

__all__ = ["TOLERANCE", "Case", "endless", "make_cases"]

TOLERANCE = 0.002
"""How far a right score may be from the reference, which transformers computes in fp32."""

# How far the scores of a case's documents are apart at least, so that a swapped one is noticed.
_APART = 3 * TOLERANCE
_LETTERS = 300


@dataclass(frozen=True)
class Case:
    """
    A request and its right answer.

    Attributes:
        number: The position among the cases.
        query: The query.
        documents: The documents.
        scores: P(yes) of each document, in the same order.
    """

    number: int
    query: str
    documents: tuple[str, ...]
    scores: tuple[float, ...]


def make_cases(reference: Reranker, *, count: int = 40, most: int = 5) -> list[Case]:
    """
    Return cases that differ in their documents, the order of these and their number.

    Args:
        reference: Computes the right scores.
        count: The number of questions. One gives no case if its documents or answers are too alike.
        most: The maximum number of documents in a case; the minimum is 2.
    """
    shuffle = random.Random(0)  # the same cases in each run
    cases: list[Case] = []
    for query, texts in real_pairs(count):
        documents = [text[:_LETTERS] for text in texts]
        scores = reference.score(query, documents)
        chosen: list[tuple[str, float]] = []
        for document, score in zip(documents, scores, strict=True):
            if all(abs(score - other) > _APART for _, other in chosen):
                chosen.append((document, score))
        if len(chosen) < 2:
            continue
        shuffle.shuffle(chosen)
        chosen = chosen[: shuffle.randint(2, most)]
        picked, right = zip(*chosen, strict=True)
        if any(_alike(right, case.scores) for case in cases):
            continue
        cases.append(Case(len(cases), query, picked, right))
    return cases


def _alike(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether two answers could be mistaken for each other."""
    pairs = zip(scores, others, strict=False)
    return len(scores) == len(others) and all(abs(a - b) <= _APART for a, b in pairs)


def endless(cases: Sequence[Case]) -> Iterator[Case]:
    """Return the cases in a random order, again and again in other orders."""
    shuffle = random.Random(1)
    while True:
        yield from shuffle.sample(cases, len(cases))
