"""Tell texts apart that are equal or nearly so, such as overlapping chunks of one source."""

from __future__ import annotations

import math

from qwen3_reranker.words import normalized_words

__all__ = ["SHINGLE", "TextIndex"]

SHINGLE = 5
"""The number of consecutive words that are compared with those of other texts."""


class TextIndex:
    """
    Texts that are not near-duplicates of each other.

    A text is a near-duplicate of another one if both are equal after normalization (NFKC, case,
    white space and punctuation), or if at least the share `similarity` of the word 5-grams of the
    shorter text occurs in the other one. Texts with fewer than five words are only compared as a
    whole, and blank texts not at all.

    To compare a text with all others would take quadratic time. If two texts share enough of the
    n shingles (5-grams) of the shorter one, then any n - ceil(similarity * n) + 1 of these contain
    one that they share. So it suffices to look up that many shingles of the shorter text, and
    those are chosen that the fewest texts have.

    Args:
        similarity: The share of common 5-grams that makes two texts near-duplicates, in (0, 1].
    """

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._wholes: set[str] = set()
        self._shingles: list[set[int]] = []
        # The texts that have a shingle, and those among them that are found by it even if they are
        # shorter than the text to compare them with.
        self._holders: dict[int, list[int]] = {}
        self._rare_holders: dict[int, list[int]] = {}

    def add(self, text: str) -> bool:
        """Add a text unless it is a near-duplicate of one that was added. Return whether it was."""
        words = normalized_words(text)
        if not words:
            return True
        whole = " ".join(words)
        if whole in self._wholes:
            return False
        shingles = set(map(hash, zip(*(words[start:] for start in range(SHINGLE)), strict=False)))
        rare = self._rarest(shingles)
        if self._has_similar(shingles, rare):
            return False
        self._wholes.add(whole)
        if shingles:
            number = len(self._shingles)
            self._shingles.append(shingles)
            for shingle in shingles:
                self._holders.setdefault(shingle, []).append(number)
            for shingle in rare:
                self._rare_holders.setdefault(shingle, []).append(number)
        return True

    def _rarest(self, shingles: set[int]) -> list[int]:
        """Return so many of the shingles that every longer near-duplicate has one of them."""
        wanted = len(shingles) - self._enough(len(shingles)) + 1
        return sorted(shingles, key=lambda shingle: len(self._holders.get(shingle, ())))[:wanted]

    def _enough(self, count: int) -> int:
        """Return how many common shingles make a text with `count` of them a near-duplicate."""
        return math.ceil(self._similarity * count - 1e-9)  # 0.56 * 25 is above 14

    def _has_similar(self, shingles: set[int], rare: list[int]) -> bool:
        candidates = {number for shingle in rare for number in self._holders.get(shingle, ())}
        for shingle in shingles:
            candidates.update(self._rare_holders.get(shingle, ()))
        for number in candidates:
            other = self._shingles[number]
            if len(shingles & other) >= self._enough(min(len(shingles), len(other))):
                return True
        return False
