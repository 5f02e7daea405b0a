r"""
The prompt of Qwen3-Reranker, as token ids and as text.

The form is that of the model card (huggingface.co/Qwen/Qwen3-Reranker-0.6B):

    PREFIX <Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document} SUFFIX

Prefix and suffix hold control tokens (`<|im_start|>`, `<think>`, ...); what users write must
not. So the two are read by the model's tokenizer, and everything between them by a copy of it
that knows no added tokens, to which `<|im_end|>` is ten ordinary characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from tokenizers import Tokenizer

from qwen3_reranker.errors import CheckpointError, InputError, PromptTooLongError
from qwen3_reranker.model.tokenizer import PlainTokenizer

__all__ = [
    "CONTROL_TOKENS",
    "DEFAULT_INSTRUCTION",
    "DEFAULT_MAX_LENGTH",
    "PREFIX",
    "SUFFIX",
    "EncodedPrompt",
    "Prompt",
    "PromptBuilder",
    "TextWriter",
]

PREFIX = (
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
# Two newlines at the end: the model was trained to answer right behind them.
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
DEFAULT_MAX_LENGTH = 8192
# The added tokens of the Qwen3 tokenizer (tokenizer.json of Qwen/Qwen3-Reranker-0.6B), for
# where no tokenizer is at hand to say its own.
CONTROL_TOKENS = (
    "<|endoftext|>",
    *(
        f"<|{name}_{end}|>"
        for name in ("im", "object_ref", "box", "quad")
        for end in ("start", "end")
    ),
    *(f"<|vision_{name}|>" for name in ("start", "end", "pad")),
    *("<|image_pad|>", "<|video_pad|>", "<|repo_name|>", "<|file_sep|>"),
    *(f"<|fim_{name}|>" for name in ("prefix", "middle", "suffix", "pad")),
    *(
        f"<{slash}{name}>"
        for name in ("tool_call", "tool_response", "think")
        for slash in ("", "/")
    ),
)
_DOCUMENT = "<Document>: "
# NFC, which the tokenizer applies first, makes UTF-8 text at most three times as long, and no
# token is shorter than a byte.
_MOST_TOKENS_PER_BYTE = 3


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as an engine takes it: its token ids, and whether the document's end was cut."""

    ids: list[int]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    A prompt to look at.

    Attributes:
        text: The same prompt as text, for endpoints that take nothing else. User text is in NFC,
            and control tokens in it are broken up by a space, so that no tokenizer reads them as
            such.
        ids: The token ids that an engine gets.
        truncated: Whether the document's end was cut to fit `max_length`.
    """

    text: str
    ids: list[int]
    truncated: bool


class TextWriter:
    """
    Write prompts as text, with user text in NFC and its control tokens broken up.

    Qwen3's tokenizer normalizes to NFC before it reads anything. llama.cpp's copy of it does not
    (read and run in b11549), and would read decomposed accents as other tokens.

    Args:
        control_tokens: The tokens that no tokenizer may find in user text.
    """

    def __init__(self, control_tokens: Sequence[str] = CONTROL_TOKENS) -> None:
        self._control = _any_of(control_tokens)

    def escape_control_tokens(self, text: str) -> str:
        """Return `text` in NFC, with a space after the first character of each control token."""
        return self._control.sub(" ", unicodedata.normalize("NFC", text))

    def head(self, query: str, instruction: str | None = None) -> str:
        """Return the prompt up to the document, prefix included."""
        return PREFIX + head_text(
            self.escape_control_tokens(query), self.escape_control_tokens(_default(instruction))
        )

    def tail(self, document: str) -> str:
        """Return the rest of the prompt for a document that is harmless already."""
        return _DOCUMENT + document + SUFFIX


class PromptBuilder(TextWriter):
    """
    Writes the prompts of one model, as token ids or as text.

    Args:
        tokenizer: The content of the model's tokenizer.json.
        max_length: The most tokens that a prompt may have, prefix and suffix included.

    Raises:
        CheckpointError: The tokenizer cannot be read, or lacks a control token of the prompt, or
            `yes` or `no`.

    Attributes:
        yes, no: The ids of the two answers.
        prefix_ids, suffix_ids: The ids of the fixed parts.
        control_ids: The ids of all added tokens; none of them comes out of user text.
    """

    def __init__(self, tokenizer: str, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        try:
            full = Tokenizer.from_str(tokenizer)
        except Exception as error:  # noqa: BLE001  # tokenizers raises nothing else
            raise CheckpointError(f"the tokenizer.json cannot be read: {error}") from None
        # Settings that a training run may have left in the file; lengths are handled here.
        full.no_truncation()
        full.no_padding()
        data = orjson.loads(tokenizer)
        added = [token["content"] for token in data.get("added_tokens", [])]
        for token in ("<|im_start|>", "<|im_end|>", "<think>", "</think>"):
            if token not in added:
                raise CheckpointError(f"the tokenizer has no token {token!r}: not a Qwen3 model's")
        data |= {"added_tokens": [], "truncation": None, "padding": None}
        self._plain = PlainTokenizer(data)
        super().__init__(added)
        self.control_ids = frozenset(full.token_to_id(token) for token in added)
        self.yes, self.no = (_single(full, word) for word in ("yes", "no"))
        self.prefix_ids: list[int] = full.encode(PREFIX, add_special_tokens=False).ids
        self.suffix_ids: list[int] = full.encode(SUFFIX, add_special_tokens=False).ids
        # Without its blank, which goes into the first word's token.
        self._document_length = len(self._encode(_DOCUMENT.rstrip()))
        self.max_length = max_length
        least = len(self.prefix_ids) + len(self.suffix_ids) + self._document_length + 1
        if max_length < least:
            raise InputError(
                f"max_length={max_length} is too small: the prompt's fixed parts and one token "
                f"of a document need {least}"
            )

    def encode(
        self, query: str, documents: Sequence[str], instruction: str | None = None
    ) -> list[EncodedPrompt]:
        """
        Return the prompt of each document, the head tokenized once and the documents in one batch.

        The result has the ids that tokenizing the model card's full string gives, for text
        without control tokens. A document is cut at its end where the whole would exceed
        `max_length`, as in the model card's script; the suffix always stays.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text holds a lone surrogate, so is not Unicode text.
        """
        head, tails = self.encode_parts(query, documents, instruction)
        return [EncodedPrompt(head + tail.ids, tail.truncated) for tail in tails]

    def encode_parts(
        self, query: str, documents: Sequence[str], instruction: str | None = None
    ) -> tuple[list[int], list[EncodedPrompt]]:
        """Return what all of `encode`'s prompts begin with, and the rest of each of them."""
        head = self._head(query, instruction)
        room = self._room(head, query, instruction)
        for index, document in enumerate(documents):
            check_unicode("document", document, index)
        return self.prefix_ids + head, [
            EncodedPrompt(ids[:room] + self.suffix_ids, len(ids) > room)
            for ids in self._plain.encode([_DOCUMENT + document for document in documents])
        ]

    def truncate(
        self, query: str, documents: Sequence[str], instruction: str | None = None, spare: int = 0
    ) -> list[tuple[str, bool]]:
        """
        Return each document harmless and cut at its end to the budget, and whether it was cut.

        Args:
            query: As for `encode`.
            documents: As for `encode`.
            instruction: As for `encode`.
            spare: So many tokens less than `max_length`, for a template that another writes.
        """
        query, instruction = (
            self.escape_control_tokens(query),
            self.escape_control_tokens(_default(instruction)),
        )
        room = self._room(self._head(query, instruction), query, instruction, spare)
        fitted = []
        for index, document in enumerate(documents):
            check_unicode("document", document, index)
            text = whole = self.escape_control_tokens(document)
            while len(ids := self._offsets(text, room)) > room:
                # Where the first dropped token begins: a character that is cut in two goes whole.
                text = text[: max(0, ids[room][0] - len(_DOCUMENT))]
            fitted.append((text, text != whole))
        return fitted

    def prompt(self, query: str, document: str, instruction: str | None = None) -> Prompt:
        """Return the prompt of one document as ids and as text; raises as `encode` does."""
        encoded = self.encode(query, [document], instruction)[0]
        text, _ = self.truncate(query, [document], instruction)[0]
        return Prompt(
            self.head(query, instruction) + self.tail(text), encoded.ids, encoded.truncated
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        """
        Return how many tokens a server reads in each text, a piece of a prompt or a plain text.

        Only the template's control tokens are read as such; those in user text are broken up.
        """
        pieces = [text.removeprefix(PREFIX).removesuffix(SUFFIX) for text in texts]
        return [
            len(ids)
            + len(self.prefix_ids) * text.startswith(PREFIX)
            + len(self.suffix_ids) * text.endswith(SUFFIX)
            for text, ids in zip(texts, self._plain.encode(pieces), strict=True)
        ]

    def _offsets(self, text: str, room: int) -> list[tuple[int, int]]:
        """Return where the tokens of `<Document>: text` lie; nothing where they surely fit."""
        if (len(text.encode()) + len(_DOCUMENT)) * _MOST_TOKENS_PER_BYTE <= room:
            return []
        return self._plain.offsets(_DOCUMENT + text)

    def _encode(self, text: str) -> list[int]:
        return self._plain.encode([text])[0]

    def _head(self, query: str, instruction: str | None) -> list[int]:
        instruction = _default(instruction)
        check_unicode("query", query)
        check_unicode("instruction", instruction)
        return self._encode(head_text(query, instruction))

    def _room(self, head: list[int], query: str, instruction: str | None, spare: int = 0) -> int:
        """Return how many tokens `<Document>: ...` may have."""
        fixed = len(self.prefix_ids) + len(self.suffix_ids) + spare
        room = self.max_length - fixed - len(head)
        if room <= self._document_length:
            raise PromptTooLongError(
                f"no room for a document: of max_length={self.max_length} tokens the template "
                f"takes {fixed + self._document_length}, the instruction "
                f"{len(self._encode(_default(instruction)))} and the query "
                f"{len(self._encode(query))}. Shorten them, or raise max_length"
            )
        return room


def head_text(query: str, instruction: str) -> str:
    """Return what stands between the prefix and the document."""
    return f"<Instruct>: {instruction}\n<Query>: {query}\n"


def _default(instruction: str | None) -> str:
    return DEFAULT_INSTRUCTION if instruction is None else instruction


def _any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """Match the empty place behind the first character of each token, overlapping ones too."""
    places = (f"(?<={re.escape(t[0])})(?={re.escape(t[1:])})" for t in tokens if len(t) > 1)
    return re.compile("|".join(places) or r"(?!)")


def _single(tokenizer: Tokenizer, word: str) -> int:
    ids: list[int] = tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1:
        raise CheckpointError(
            f"the tokenizer reads {word!r} as {len(ids)} tokens {ids}; a Qwen3 reranker answers "
            "with the single tokens 'yes' and 'no'"
        )
    return ids[0]


def check_unicode(name: str, text: str, index: int | None = None) -> None:
    """Raise `InputError` where `text` holds a lone surrogate; the index follows the name."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = name if index is None else f"{name} {index}"
        raise InputError(
            f"{place} holds the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}, so it is not Unicode text: decode its bytes with errors='replace'"
        ) from None
