"""The words of a text, also in scripts that are written without spaces."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["normalized_words", "part_ends", "word_ends"]

# Scripts that are written without spaces, of which every character counts as a word: Thai, Lao,
# Burmese, Khmer, kana and CJK ideographs.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# White space, and punctuation that does not change what a text says. Symbols do: "C", "C++" and
# "C#" are not the same, and neither are 5 and -5.
_SEPARATORS = (
    r"\s!\"'()*,\-./:;?\[\\\]_`{|}\xa1\xab\xb7\xbb\xbf\u055d\u0589\u060c\u061b\u061f\u06d4\u0964"
    r"\u0965\u2000-\u206f\u2e00-\u2e7f\u3000-\u301f\u30fb"
)
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?<!\S)-(?=\d))?[^{_SEPARATORS}{_UNSPACED}]+")
# Where a text may be cut: behind what white space follows, and in scripts without spaces anywhere.
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
# Where a piece such as a long URL or minified JSON may be cut.
_PART = re.compile(r"\w+|[^\w\s]")


def normalized_words(text: str) -> list[str]:
    """
    Return the words of a text without case, punctuation and compatibility forms (NFKC).

    A text without words, such as "?!", has its pieces between white space for words.
    """
    normalized = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(normalized) or normalized.split()


def word_ends(text: str) -> list[int]:
    """Return the positions after the words of a text, in ascending order."""
    return _ends(_PIECE, text)


def part_ends(text: str) -> list[int]:
    """Return the positions after the parts of the first word of a text, in ascending order."""
    ends = word_ends(text)
    return _ends(_PART, text[: ends[0]]) if ends else []


def _ends(pattern: re.Pattern[str], text: str) -> list[int]:
    ends = (match.end() for match in pattern.finditer(text))
    return [end for end in ends if not _within_character(text, end)]


def _within_character(text: str, position: int) -> bool:
    """Return whether a position is before an accent or another mark of the character before it."""
    return position < len(text) and unicodedata.category(text[position]).startswith("M")
