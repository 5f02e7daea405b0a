"""Choose passages by the query's words, before they are scored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from qwen3_reranker.words import normalized_words

__all__ = ["preselect"]

# The usual parameters of BM25.
_K1, _B = 1.2, 0.75


def preselect(query: str, passages: Sequence[str], count: int) -> list[int]:
    """
    Return the positions of the passages that share most of the query's rarer words.

    The passages are ranked by BM25, with the rarity of words within these passages. Ties go to the
    earlier passage, so without a common word the first passages are chosen.

    Args:
        query: The question or search text.
        passages: The passages of one document, in order.
        count: The maximum number of passages to choose, 1 or more.

    Returns:
        The positions of the chosen passages, in ascending order.
    """
    if len(passages) <= count:
        return list(range(len(passages)))
    terms = set(normalized_words(query))
    lengths, found = [], []
    for passage in passages:
        words = normalized_words(passage)
        lengths.append(len(words))
        found.append(Counter(word for word in words if word in terms))
    with_term = Counter(term for counts in found for term in counts)
    mean_length = sum(lengths) / len(lengths) or 1.0

    def rarity(term: str) -> float:
        return math.log(1 + (len(passages) - with_term[term] + 0.5) / (with_term[term] + 0.5))

    def relevance(index: int) -> float:
        length = _K1 * (1 - _B + _B * lengths[index] / mean_length)
        # Sorted, so that rounding does not depend on the order of a set.
        return sum(
            rarity(term) * times * (_K1 + 1) / (times + length)
            for term, times in sorted(found[index].items())
        )

    best = sorted(range(len(passages)), key=relevance, reverse=True)[:count]
    return sorted(best)
