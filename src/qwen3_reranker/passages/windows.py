"""Divide texts into overlapping windows of a limited number of tokens."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from qwen3_reranker.model.prompt import PromptBuilder

__all__ = ["Span", "divide"]

Span = tuple[int, int]
"""The positions of a passage's first character and of the one after its last."""

# Where a window preferably ends, best first; the position is the end of a match.
_ENDS = (
    re.compile(r"(?<=\S)(?=[^\S\n]*\n[^\S\n]*\n)"),  # paragraphs
    re.compile(r"(?<=\S)(?=[^\S\n]*\n)"),  # lines
    re.compile(r"""(?<=[.!?…])["'”’»)\]]*(?=\s)|(?<=[。！？])[」』”’）]*"""),  # sentences  # noqa: RUF001
    re.compile(r"(?<=\S)(?=\s)"),  # words
)
# How far beyond the end of a match the patterns above need to look.
_LOOKAHEAD = 64
_NOT_SPACE = re.compile(r"\S")
# Where a window preferably begins, as far as half of the overlap allows.
_STARTS = (re.compile(rf"\n|{_ENDS[2].pattern}"), re.compile(r"\s"))
# A text with more characters per token of a window is not measured before it is divided.
_CERTAINLY_LONG = 16
_JOINER = "\u200d"
# The joiners, the vowel signs AM of Thai and Lao, and the voiced sound marks of halfwidth kana.
_EXTENDING = f"\u200c{_JOINER}\u0e33\u0eb3\uff9e\uff9f"


def divide(
    builder: PromptBuilder, texts: Sequence[str], tokens: int, overlap: int
) -> list[list[Span]]:
    """
    Divide each text into overlapping windows.

    A text of at most `tokens` tokens is one window. Otherwise a window ends at the last end of a
    paragraph, or else of a line, a sentence or a word, within its last fifth, or else between two
    characters. White space around windows belongs to none; every other character of a text is in at
    least one. The time grows linearly with the number of tokens in all windows.

    Args:
        builder: Measures texts as they are measured in prompts.
        texts: The texts, not blank.
        tokens: The maximum number of tokens in a window. Only a single character that is longer
            exceeds it.
        overlap: The number of tokens, less than `tokens`, that two consecutive windows share. It is
            approximate, because windows begin and end where words do.

    Returns:
        The windows of each text, in order, by their positions in characters.
    """
    unclear = [text for text in texts if len(text) <= _CERTAINLY_LONG * tokens]
    lengths = dict(zip(unclear, builder.document_lengths(unclear), strict=True))
    return [
        [(0, len(text))]
        if lengths.get(text, tokens + 1) <= tokens
        else list(_Windows(builder, text, tokens, overlap))
        for text in texts
    ]


class _Windows:
    """
    The windows of one text, in order.

    Args:
        builder: Measures texts.
        text: The text, not blank.
        tokens: The maximum number of tokens in a window.
        overlap: The number of tokens that two consecutive windows share.
    """

    def __init__(self, builder: PromptBuilder, text: str, tokens: int, overlap: int) -> None:
        self._builder = builder
        self._text = text
        self._tokens = tokens
        self._overlap = overlap
        # The position at which each token begins, and the end of the text.
        self._starts = [*builder.token_starts(text), len(text)]

    def __iter__(self) -> Iterator[Span]:
        whole = 0, len(self._text)
        if len(self._starts) <= self._tokens + 1 and self._length(*whole) <= self._tokens:
            yield whole
            return
        end = 0
        window = self._window(0, end)
        while window is not None:
            if window[1] > end:
                yield window
                start, end = window
                window = self._window(self._overlapping(start, end), end)
            else:  # beside the overlap, the window has room for nothing
                window = self._window(end, end)

    def _window(self, start: int, previous: int) -> Span | None:
        """Return the window that begins with the next word; None if there is none."""
        word = _NOT_SPACE.search(self._text, start)
        if word is None:
            return None
        # Not at white space before an accent: stripped, such a window could be empty.
        start = word.start()
        first = bisect_left(self._starts, self._starts[bisect_right(self._starts, start) - 1])
        last = first + self._tokens
        if last >= len(self._starts) - 1:
            end = len(self._text)
        else:
            fifth = self._starts[last - self._tokens // 5]
            end = self._preferred_end(start, max(fifth, previous), self._starts[last])
        end = self._shrunk(start, max(end, start + 1))
        return start, self._stripped(start, end)

    def _preferred_end(self, start: int, low: int, high: int) -> int:
        """Return the best place between two positions at which a window can end."""
        for pattern in _ENDS:
            found = pattern.finditer(self._text, low, high + _LOOKAHEAD)
            if ends := [match.end() for match in found if low < match.end() <= high]:
                return self._cut(start, ends[-1])
        return self._cut(start, high)

    def _shrunk(self, start: int, end: int) -> int:
        """Return an end at which the window fits: cut text can have more tokens than it had."""
        end = self._stripped(start, end)
        while end > start + 1 and (excess := self._length(start, end) - self._tokens) > 0:
            last = self._starts[max(bisect_left(self._starts, end) - excess, 0)]
            end = self._cut(start, min(max(last, (start + end) // 2), end - 1))
        return end

    def _overlapping(self, start: int, end: int) -> int:
        """Return where the window after this one begins: at a sentence, or else at a word."""
        last = bisect_left(self._starts, end)
        earliest = self._starts[max(last - self._overlap, 0)]
        if self._overlap == 0 or earliest >= end:
            return end
        middle = self._starts[last - self._overlap // 2]
        earliest = max(earliest, start + 1)
        for pattern in _STARTS:
            for found in pattern.finditer(self._text, earliest - 1, middle):
                if found.end() >= earliest:
                    return found.end()
        earliest = _cluster_start(self._text, earliest, start)
        return end if earliest == start else earliest

    def _length(self, start: int, end: int) -> int:
        return self._builder.document_lengths([self._text[start:end]])[0]

    def _stripped(self, start: int, end: int) -> int:
        return start + len(self._text[start:end].rstrip())

    def _cut(self, start: int, end: int) -> int:
        """Return the end moved back so that it splits no character as people see it."""
        moved = _cluster_start(self._text, end, start)
        return end if moved == start else moved


def _cluster_start(text: str, position: int, floor: int) -> int:
    """
    Return where the grapheme cluster begins that a position is within.

    Args:
        text: The text.
        position: The position.
        floor: The lowest position to return, at which a cluster begins.
    """
    while position > floor and _joined(text, position, floor):
        position -= 1
    return position


def _joined(text: str, position: int, floor: int) -> bool:
    """Return whether the characters on both sides of a position belong together."""
    if position >= len(text):
        return False
    before, after = text[position - 1], text[position]
    if after.isascii():
        return before + after == "\r\n"
    if _is_flag_half(before) and _is_flag_half(after):
        run = 1
        while position - run > floor and _is_flag_half(text[position - run - 1]):
            run += 1
        return run % 2 == 1
    return (
        unicodedata.category(after).startswith("M")  # accents, vowel signs, variation selectors
        or after in _EXTENDING
        or before == _JOINER
        or "\u1160" <= after <= "\u11ff"  # the second and third part of a Hangul syllable
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags, in the flags of regions
    )


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
