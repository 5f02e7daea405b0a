"""What a load test sends: random documents, or the user's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TypeVar

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.ranking import ScoringJob, validate_query
from qwen3_reranker.streaming.methods import Pair, validate_pair

__all__ = [
    "QUERY_TOKENS",
    "Request",
    "Workload",
    "pair_workload",
    "random_workload",
    "text_workload",
    "usable_pairs",
    "usable_texts",
    "words_of",
]

T = TypeVar("T")

QUERY_TOKENS = 16
"""The number of tokens in a random query."""

# Syllables, of which hundreds are single tokens of Qwen's tokenizer.
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"
_SYLLABLES = [
    start + vowel + end for start in _CONSONANTS for vowel in _VOWELS for end in ("", *_CONSONANTS)
]
# Words in the text that random documents are cut from.
_TAPE = 20_000

Request = tuple[str, list[str]]
"""A query with its documents."""

WritePrompt = Callable[[str, str], Prompt]
"""Returns the prompt for a query and a document. Without a tokenizer it has no token ids."""


@dataclass(frozen=True, slots=True)
class Workload:
    """
    The requests of a load test.

    Attributes:
        requests: The requests to measure, without end.
        warm_up: Requests of the same kind to send before the measurement, without end. A prefix
            cache that holds them does not help those that are measured.
        cycle: The number of requests after which they repeat. None if none is sent twice.
    """

    requests: Iterator[Request]
    warm_up: Iterator[Request]
    cycle: int | None = None


def words_of(write_prompt: WritePrompt) -> list[str]:
    """
    Return words that are one token each within a text.

    Args:
        write_prompt: Writes a prompt. Without a tokenizer, all candidates are returned,
            and most of them are one token or two.
    """
    one = len(write_prompt("a", "a").ids)
    return [word for word in _SYLLABLES if len(write_prompt("a", word).ids) == one]


def random_workload(
    write_prompt: WritePrompt, documents: int, tokens: int, rng: random.Random
) -> Workload:
    """
    Return requests with random queries and documents, in which a prefix cache finds nothing.

    The prompts of a request have only the query in common, and those of different requests only
    the instruction: within a request, documents begin with different words, as long as there are
    enough words that are one token.

    Args:
        write_prompt: Writes a prompt.
        documents: The number of documents per request.
        tokens: The number of tokens in each document. Without a tokenizer, the number of words.
        rng: The source of randomness.

    Raises:
        InputError: The documents are too long for the prompt.
    """
    texts = _RandomTexts(words_of(write_prompt), rng)
    one, many = (write_prompt("a", *texts.documents(1, words)) for words in (1, tokens))
    if many.truncated:
        room = len(many.ids) - len(one.ids) + 1
        raise InputError(
            f"tokens={tokens}: max_length leaves room for {room} tokens of a document, so longer "
            "ones would be truncated: give fewer tokens, or raise max_length"
        )

    def requests() -> Iterator[Request]:
        while True:
            yield texts.query(), texts.documents(documents, tokens)

    return Workload(requests(), requests())


def usable_texts(texts: Sequence[str], documents: int | None) -> list[str]:
    """
    Return the different texts that are not blank.

    Args:
        texts: The user's texts.
        documents: The number of documents per request. None if it may be lower than usual.

    Raises:
        InputError: There are fewer texts than documents in a request, or one is not text.
    """
    usable = ScoringJob(texts).texts
    if not usable:
        raise InputError("texts has none that is not blank: give at least one")
    if documents is not None and len(usable) < documents:
        raise InputError(
            f"documents={documents}: there are only {len(usable)} different texts that are not "
            "blank: give fewer documents, or more texts"
        )
    return usable


def usable_pairs(pairs: Sequence[Pair]) -> list[Request]:
    """
    Return the queries with their documents.

    Args:
        pairs: The user's pairs.

    Raises:
        InputError: There is no pair, or a pair, a query or a document cannot be used.
    """
    if not pairs:
        raise InputError("pairs is empty: give at least one query with its documents")
    return [
        (validate_query(query), ScoringJob(documents).documents)
        for query, documents in map(validate_pair, pairs)
    ]


def text_workload(texts: Sequence[str], documents: int, rng: random.Random) -> Workload:
    """
    Return requests with random queries, and documents drawn at random from the user's texts.

    Args:
        texts: The texts, all different and not blank.
        documents: The number of documents per request, at most that of the texts.
        rng: The source of randomness.
    """
    queries = _RandomTexts(_SYLLABLES, rng)

    def requests() -> Iterator[Request]:
        while True:
            yield queries.query(), rng.sample(texts, documents)

    return Workload(requests(), requests())


def pair_workload(pairs: Sequence[Request], rng: random.Random) -> Workload:
    """
    Return the user's own requests, in order, from the beginning again after the last.

    The requests of the warm-up have the same documents, but random queries. The query comes first
    in the prompt, so a prefix cache then holds nothing of the user's requests.

    Args:
        pairs: The queries with their documents.
        rng: The source of randomness.
    """
    queries = _RandomTexts(_SYLLABLES, rng)
    warm_up = ((queries.query(), documents) for _, documents in cycle(pairs))
    return Workload(cycle(pairs), warm_up, len(pairs))


class _RandomTexts:
    """
    Random texts of a given number of words.

    Args:
        words: The words.
        rng: The source of randomness.
    """

    def __init__(self, words: list[str], rng: random.Random) -> None:
        self._words, self._rng = words, rng
        # Documents are cut from one long text, which is much faster than drawing each word.
        tape = rng.choices(words, k=_TAPE)
        self._starts = [0]
        for word in tape:
            self._starts.append(self._starts[-1] + len(word) + 1)
        self._tape = "".join(f" {word}" for word in tape)

    def query(self) -> str:
        return " ".join(self._rng.choices(self._words, k=QUERY_TOKENS))

    def documents(self, number: int, words: int) -> list[str]:
        """Return texts of so many words that begin with different ones, if there are enough."""
        piece = min(words - 1, _TAPE // 2)
        starts = self._spread(range(_TAPE - piece), number)
        return [
            first + self._cut(start, piece) + self._more(words - 1 - piece)
            for first, start in zip(self._spread(self._words, number), starts, strict=True)
        ]

    def _more(self, words: int) -> str:
        """Return the rest of a document that is longer than half the tape."""
        pieces = []
        while words > 0:
            piece = min(words, _TAPE // 2)
            pieces.append(self._cut(self._rng.randrange(_TAPE - piece), piece))
            words -= piece
        return "".join(pieces)

    def _cut(self, start: int, words: int) -> str:
        """Return so many words of the tape, with a space before each."""
        return self._tape[self._starts[start] : self._starts[start + words]]

    def _spread(self, population: Sequence[T], number: int) -> list[T]:
        """Draw a number of elements, none of them twice before all have been drawn."""
        drawn: list[T] = []
        while len(drawn) < number:
            drawn += self._rng.sample(population, min(number - len(drawn), len(population)))
        return drawn
