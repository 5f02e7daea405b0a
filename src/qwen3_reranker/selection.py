"""Choose from ranked hits: by score, by number, without duplicates, within a token budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypedDict

from qwen3_reranker.errors import InputError, warn_caller
from qwen3_reranker.near_duplicates import TextIndex
from qwen3_reranker.options import Option
from qwen3_reranker.ranking import Hit
from qwen3_reranker.token_counting import count_tokens, validate_counter
from qwen3_reranker.words import part_ends, word_ends

__all__ = [
    "Selection",
    "SelectionOptions",
    "TokenCounter",
    "at_least",
    "within_budget",
    "without_duplicates",
]

TokenCounter = Callable[[str], int]
"""A function that returns the number of tokens of a text."""

# The similarity that `drop_duplicates=True` stands for. Chunks of 512 tokens that overlap by 64
# share an eighth of their 5-grams.
_SIMILARITY = 0.8


class SelectionOptions(TypedDict, total=False):
    """
    Which of the ranked documents to keep, besides `top_n` and `min_score`.

    The rerank methods of `Reranker` and both adapters take these options. They apply in this order:
    `min_score`, `drop_duplicates`, `top_n`, `token_budget`.

    Attributes:
        drop_duplicates: Whether to drop each document that is a near-duplicate of a better one:
            both are equal but for case, white space and punctuation, or at least 80 % of the
            shorter one's sequences of five words occur in the other, whichever of them is longer.
            A number in (0, 1] replaces the 80 %. Documents of fewer than five words are only
            compared as a whole. Does not apply to documents without a score.
        token_budget: Keep the best documents whose tokens add up to at most this number, 1 or more.
            The first one that does not fit ends the list, even if a later one would fit. If not
            even the best one fits, the list is empty, with a `RerankerWarning`. None sets no limit.
        token_counter: A function that returns the number of tokens of a text for `token_budget`,
            such as `lambda text: len(encoding.encode(text))` with an encoding of tiktoken. Give
            that of your language model. None counts with the reranker's own tokenizer. The async
            methods call it in a worker thread.
        cut_last: Whether to cut the first document that does not fit into `token_budget` at the end
            of a word so that it fits, rather than leave it out.
    """

    drop_duplicates: Annotated[bool | float, Option(default=False)]
    token_budget: Annotated[int | None, Option()]
    token_counter: Annotated[TokenCounter | None, Option(hidden=True, opaque=True)]
    cut_last: Annotated[bool, Option(default=False)]


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Which hits of a ranking to keep.

    The limits apply in the order `min_score`, `drop_duplicates`, `top_n`, `token_budget`. Hits
    whose scoring failed are kept whatever `min_score` and `drop_duplicates` say.

    Args:
        top_n: Keep at most this many hits, 1 or more. None keeps all.
        min_score: Keep only hits with at least this P(yes), in [0, 1]. None keeps all.
        drop_duplicates: Whether to drop near-duplicates of better hits; a number in (0, 1] is the
            share of common 5-grams that makes two texts near-duplicates, and True stands for 0.8.
        token_budget: Keep the best hits whose tokens add up to at most this number, 1 or more.
            None keeps all.
        token_counter: Returns the number of tokens of a text. `token_budget` needs it.
        cut_last: Whether to cut the first hit that exceeds `token_budget`, so that it fits.
        as_returned: Returns a hit with the text that the caller gets, if that is not the text that
            was scored. Duplicates and tokens are those of this text.
        shown: Returns what a language model reads of such a hit, if that is more than its text.
            Tokens are those of what it returns.

    Raises:
        InputError: A limit is out of range or of another type.
    """

    top_n: int | None = None
    min_score: float | None = None
    drop_duplicates: bool | float = False
    token_budget: int | None = None
    token_counter: TokenCounter | None = None
    cut_last: bool = False
    as_returned: Callable[[Hit], Hit] | None = None
    shown: Callable[[Hit], str] | None = None

    def __post_init__(self) -> None:
        _check_whole("top_n", self.top_n, "to keep all")
        _check_whole("token_budget", self.token_budget, "for no limit")
        if (score := self.min_score) is not None:
            if not _is_number(score):
                raise InputError(f"min_score={score!r}: give a number in [0, 1], or None")
            if not 0 <= score <= 1:  # true for NaN, too
                raise InputError(
                    f"min_score={score!r}: scores are probabilities, so give one in [0, 1]"
                )
        share = self.drop_duplicates
        if not isinstance(share, bool) and not (_is_number(share) and 0 < share <= 1):
            raise InputError(
                f"drop_duplicates={share!r}: give True, False, or the share of equal text that "
                "makes a duplicate, above 0 and at most 1"
            )
        validate_counter(self.token_counter)
        if not isinstance(self.cut_last, bool):
            raise InputError(f"cut_last={self.cut_last!r}: give True or False")

    @property
    def lacks_counter(self) -> bool:
        """Whether a token budget is set, and no function that counts tokens."""
        return self.token_budget is not None and self.token_counter is None

    @property
    def reads_texts(self) -> bool:
        """Whether texts are compared or their tokens counted, which takes milliseconds."""
        return self.drop_duplicates is not False or self.token_budget is not None

    def of(self, hits: Sequence[Hit]) -> list[Hit]:
        """
        Return the hits to keep, in the same order.

        Args:
            hits: The hits, best first.

        Raises:
            InputError: There is a token budget and no `token_counter`, or it does not return a
                number of tokens.
        """
        kept, min_score, share = hits, self.min_score, self.drop_duplicates
        if (min_score is not None or share is not False) and any(hit.error for hit in hits):
            min_score, share = None, False
        if min_score is not None:
            kept = at_least(kept, min_score)
        kept = list(kept[: self.top_n] if share is False else kept)
        if self.as_returned is not None:
            kept = [self.as_returned(hit) for hit in kept]
        if share is not False:
            share = _SIMILARITY if share is True else share
            kept = without_duplicates(kept, share, at_most=self.top_n)
        if self.token_budget is None or not kept:
            return kept
        if self.token_counter is None:
            raise InputError(f"token_budget={self.token_budget} needs a token_counter=")
        return within_budget(
            kept, self.token_budget, self.token_counter, cut_last=self.cut_last, shown=self.shown
        )


def at_least(hits: Sequence[Hit], min_score: float) -> list[Hit]:
    """
    Return the hits with at least a score, in the same order.

    Args:
        hits: The hits. Those without a score are dropped.
        min_score: The lowest P(yes) to keep, in [0, 1].
    """
    return [hit for hit in hits if hit.score >= min_score]


def without_duplicates(
    hits: Sequence[Hit], similarity: float = _SIMILARITY, *, at_most: int | None = None
) -> list[Hit]:
    """
    Return the hits without near-duplicates of hits that come before them, in the same order.

    Two texts are near-duplicates if they are equal but for case, white space, punctuation and
    Unicode compatibility forms (NFKC), or if at least the share `similarity` of the shorter one's
    sequences of five words occurs in the other. Texts of fewer than five words are only compared
    as a whole, blank texts not at all. In scripts without spaces, such as Chinese, every character
    is a word.

    Args:
        hits: The hits, best first.
        similarity: The share that makes two texts near-duplicates, in (0, 1].
        at_most: Stop when so many hits are kept. None goes through all.
    """
    index = TextIndex(similarity)
    kept: list[Hit] = []
    for hit in hits:
        if len(kept) == at_most:
            break
        if index.add(hit.text):
            kept.append(hit)
    return kept


def within_budget(
    hits: Sequence[Hit],
    budget: int,
    count: TokenCounter,
    *,
    cut_last: bool = False,
    shown: Callable[[Hit], str] | None = None,
) -> list[Hit]:
    """
    Return the first hits whose tokens add up to at most a budget.

    The first hit that does not fit ends the list, even if a later one would fit, because the order
    says which hits matter most. If there are hits and none fits, a `RerankerWarning` is issued.

    Args:
        hits: The hits, best first.
        budget: The number of tokens.
        count: Returns the number of tokens of a text.
        cut_last: Whether to cut the text of the first hit that does not fit at the end of a word,
            so that it fits. It is left out if not a single word of it does.
        shown: Returns what a language model reads of a hit, if that is more than its text.

    Returns:
        The hits. One that was cut is a copy with the shorter text, and its `cut` is True.

    Raises:
        InputError: `count` returned something other than a number of tokens.
    """

    def tokens(hit: Hit) -> int:
        return count_tokens(count, hit.text if shown is None else shown(hit))

    kept: list[Hit] = []
    left = budget
    for hit in hits:
        needed = tokens(hit)
        if needed <= left:
            kept.append(hit)
            left -= needed
            continue
        if cut_last and (part := _longest_fitting(hit, left, tokens)):
            kept.append(part)
        elif not kept:
            warn_caller(
                f"token_budget={budget} is too small: the best document alone has {needed} tokens, "
                "so none is returned. Raise it, or give cut_last=True"
            )
        break
    return kept


def _longest_fitting(hit: Hit, room: int, tokens: Callable[[Hit], int]) -> Hit | None:
    """Return a copy with as many words of the text as there is room for, or None if it is empty."""
    for ends in (word_ends(hit.text), part_ends(hit.text)):
        low, high, best = 0, len(ends), None
        farthest = room  # a guess, so that a long text is not counted up to its middle
        while low < high:
            middle = min((low + high) // 2, farthest)
            part = replace(hit, text=hit.text[: ends[middle]], cut=True)
            if tokens(part) <= room:
                low, best, farthest = middle + 1, part, 2 * middle + 1
            else:
                high = middle
        if best is not None:
            return best
    return None


def _check_whole(name: str, value: object, otherwise: str) -> None:
    """Raise `InputError` unless a value is None or a whole number of at least 1."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(
            f"{name}={value!r}: give a whole number of at least 1, or None {otherwise}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
