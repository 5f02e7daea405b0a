"""
Encode text as token ids, with tiktoken where it is certain to give what `tokenizers` gives.

It takes a quarter of the time.

A tokenizer like Qwen's splits text with one regular expression and merges bytes within each piece.
The libraries could differ in two respects.

- The split: NFC and the character classes depend on a library's Unicode version. Therefore tiktoken
  encodes only texts of common characters (`_COMMON`), whose classes are the same in all versions
  and which NFC does not change. tests/unit/model/test_tokenizer.py compares all of them.
- The merges: `tokenizers` merges the pairs that are listed, tiktoken any two neighbors whose union
  is a token. The result is the same if each merge makes a new token, tokens are numbered in the
  order of the merges, and the bytes of each token by themselves merge to that token
  (`_same_merges`). This is because the merges within a token's bytes do not depend on the bytes
  around them until a merge crosses their ends. So if two neighbors make a token, they are the last
  two pieces that the token's bytes merge to, which is the pair that is listed. Both libraries
  choose the lowest number first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from tokenizers import Tokenizer

from qwen3_reranker.errors import CheckpointError

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["ModelTokenizer", "PlainTokenizer", "read_tokenizer", "token_text"]

# How Qwen's tokenizers split text (tokenizer.json of Qwen/Qwen3-Reranker-0.6B).
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLIT = [
    {"type": "Split", "pattern": {"Regex": _PATTERN}, "behavior": "Isolated", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
]
# ASCII, the letters of European languages, punctuation, currencies, arrows, mathematical and box
# drawing symbols, kana, CJK ideographs, Hangul, full-width forms and the replacement character, up
# to a length for which the regular expression stays within its limit of steps.
_COMMON = re.compile(
    "[\x01-\x7f\xa0-\u017e\u0391-\u03a1\u03a3-\u03a9\u03b1-\u03c9\u0410-\u044f\u2002-\u200b"
    "\u2010-\u2027\u2030-\u205e\u20a0-\u20ac\u2116-\u2122\u2190-\u22ff\u2500-\u25ff\u3000-\u3029"
    "\u3041-\u3096\u30a1-\u30fe\u4e00-\u9fa5\uac00-\ud7a3\uff01-\uff9d\ufffd]{0,65536}"
)
# Separates the texts that one call encodes, and does not occur in them.
_SEPARATOR = "\x00"
# The control tokens that the prompt consists of.
_PROMPT_TOKENS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
# The digest of the merges of Qwen3's tokenizers. To check all 151,643 tokens would take a second.
_KNOWN = "bbeef245f0b03a9613753068e5799c2496290005594c68f09eed68feedbe6d1f"


class PlainTokenizer:
    """
    Encode text as ordinary text, without added tokens such as `<|im_end|>`.

    Args:
        data: The content of a tokenizer.json, without added tokens, truncation and padding.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self._exact = _tokenizer(data)
        self._fast = _tiktoken(data) if _of_qwens_kind(data) else None

    @property
    def uses_tiktoken(self) -> bool:
        """Whether tiktoken encodes the texts for which its result is certain to be the same."""
        return self._fast is not None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, in order."""
        if self._fast is None:
            return self._slowly(texts)
        common = [bool(_COMMON.fullmatch(text)) for text in texts]
        fast = iter(self._quickly(self._fast, [t for t, c in zip(texts, common, strict=True) if c]))
        slow = iter(self._slowly([t for t, c in zip(texts, common, strict=True) if not c]))
        return [next(fast) if c else next(slow) for c in common]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the character positions in the text at which each token begins and ends."""
        offsets: list[tuple[int, int]] = self._exact.encode(text, add_special_tokens=False).offsets
        return offsets

    def _slowly(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._exact.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @staticmethod
    def _quickly(encoding: Encoding, texts: Sequence[str]) -> list[list[int]]:
        # A single call for all texts, because each call releases and takes the GIL.
        ids = encoding.encode(
            _SEPARATOR.join(texts), allowed_special={_SEPARATOR}, disallowed_special=()
        )
        ids.append(encoding.n_vocab - 1)
        encoded, start = [], 0
        for _ in texts:
            end = ids.index(encoding.n_vocab - 1, start)
            encoded.append(ids[start:end])
            start = end + 1
        return encoded


class ModelTokenizer(NamedTuple):
    """
    A model's tokenizer.

    Attributes:
        full: The tokenizer with its added tokens, without truncation and padding.
        plain: The tokenizer without added tokens.
        added: The added tokens.
    """

    full: Tokenizer
    plain: PlainTokenizer
    added: list[str]


# Reading Qwen3's tokenizer takes a second, and several servers or length limits share one.
@lru_cache(maxsize=2)
def read_tokenizer(tokenizer: str) -> ModelTokenizer:
    """
    Return the tokenizer of a tokenizer.json; the last two are remembered.

    Args:
        tokenizer: The text of the file.

    Raises:
        CheckpointError: The text is not a tokenizer, or has no control tokens for the prompt.
    """
    try:
        full = Tokenizer.from_str(tokenizer)
        data = orjson.loads(tokenizer)  # which is stricter
    except Exception as error:  # noqa: BLE001  # tokenizers raises nothing else
        raise CheckpointError(f"the tokenizer.json cannot be read: {error}") from None
    # A training run may have left these settings in the file. Lengths are handled here.
    full.no_truncation()
    full.no_padding()
    added = [token["content"] for token in data.get("added_tokens", [])]
    for token in _PROMPT_TOKENS:
        if token not in added:
            raise CheckpointError(f"the tokenizer has no token {token!r}: not a Qwen3 model's")
    plain = PlainTokenizer(data | {"added_tokens": [], "truncation": None, "padding": None})
    return ModelTokenizer(full, plain, added)


def _tokenizer(data: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(orjson.dumps(data).decode())


def _of_qwens_kind(data: dict[str, Any]) -> bool:
    """Return whether a tokenizer splits text and merges the pieces as Qwen's tokenizers do."""
    model, split = data["model"], data.get("pre_tokenizer") or {}
    plain = not any(
        model.get(name)
        for name in (
            "dropout",
            "unk_token",
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "fuse_unk",
            "byte_fallback",
            "ignore_merges",
        )
    )
    return (
        plain
        and model.get("type") == "BPE"
        and data.get("normalizer") in (None, {"type": "NFC"})
        and split.get("type") == "Sequence"
        and split.get("pretokenizers") == _SPLIT
    )


def _tiktoken(data: dict[str, Any]) -> Encoding | None:
    """Return the tiktoken encoding of a tokenizer like Qwen's, or None if it might differ."""
    vocabulary: dict[str, int] = data["model"]["vocab"]
    merges = [
        merge.split(" ") if isinstance(merge, str) else merge for merge in data["model"]["merges"]
    ]
    if not _same_merges(data, vocabulary, merges):
        return None
    from tiktoken import Encoding

    return Encoding(
        "qwen",
        pat_str=_PATTERN,
        mergeable_ranks={
            token.translate(_BYTES).encode("latin-1"): number
            for token, number in vocabulary.items()
        },
        special_tokens={_SEPARATOR: max(vocabulary.values()) + 1},
    )


def _same_merges(
    data: dict[str, Any], vocabulary: dict[str, int], merges: list[Sequence[str]]
) -> bool:
    """Return whether both libraries merge alike, for the reasons in the module's docstring."""
    made = ["".join(merge) for merge in merges]
    numbers = [vocabulary.get(token, -1) for token in made]
    ordered = all(0 <= a < b for a, b in pairwise(numbers))
    distinct = len({*vocabulary.values()}) == len(vocabulary)
    if not (ordered and distinct) or vocabulary.keys() != {*map(chr, _BYTES), *made}:
        return False
    if digest(merges) == _KNOWN:
        return True
    alone = _tokenizer(data | {"pre_tokenizer": None, "normalizer": None})
    encodings = alone.encode_batch_fast(made, add_special_tokens=False)
    pairs = zip(encodings, numbers, strict=True)
    return all(encoding.ids == [number] for encoding, number in pairs)


def digest(merges: Sequence[Sequence[str]]) -> str:
    """Return the SHA-256 digest of a list of merges, in hexadecimal."""
    return hashlib.sha256("\n".join(map(" ".join, merges)).encode()).hexdigest()


def _byte_letters() -> dict[int, int]:
    """Return the byte that each letter of a vocabulary stands for (GPT-2's table), by its code."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: byte for byte in shown} | {256 + n: byte for n, byte in enumerate(hidden)}


_BYTES = _byte_letters()


def token_text(token: str, *, added: bool) -> str:
    r"""
    Return the text that a token of a vocabulary stands for.

    Args:
        token: The token, in which letters stand for bytes.
        added: Whether it is an added token, which is text already.

    Returns:
        The text. Bytes that are only a part of a character are escaped, as in `\xe4`.
    """
    if added or any(ord(letter) not in _BYTES for letter in token):
        return token
    return token.translate(_BYTES).encode("latin-1").decode("utf-8", "backslashreplace")
