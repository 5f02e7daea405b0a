r"""
The prompt of Qwen3-Reranker, as token ids and as text.

The form is that of the model card (huggingface.co/Qwen/Qwen3-Reranker-0.6B):

    PREFIX <Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document} SUFFIX

Prefix and suffix contain control tokens (`<|im_start|>`, `<think>`, ...), and user text must not.
So the model's own tokenizer encodes the prefix and the suffix, and a copy without added tokens, to
which `<|im_end|>` is ten ordinary characters, encodes everything between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from tokenizers import Tokenizer

from qwen3_reranker.errors import CheckpointError, InputError, PromptTooLongError
from qwen3_reranker.model.template import (
    DOCUMENT,
    PREFIX,
    SUFFIX,
    TextWriter,
    check_unicode,
    default_instruction,
    head_text,
)
from qwen3_reranker.model.tokenizer import read_tokenizer, token_text

__all__ = [
    "DEFAULT_MAX_LENGTH",
    "EncodedPrompt",
    "Prompt",
    "PromptBuilder",
    "PromptToken",
    "TruncatedText",
]

DEFAULT_MAX_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """
    A prompt in the form that an engine accepts.

    Attributes:
        ids: The token ids.
        truncated: Whether the document's end was cut off to fit `max_length`.
    """

    ids: list[int]
    truncated: bool


class TruncatedText(NamedTuple):
    """
    A document as it is sent as text.

    Attributes:
        text: The text, with its control tokens escaped.
        truncated: Whether the end was cut off to fit `max_length`.
        tokens: The number of tokens of the prompt from the document's label to the end of the text.
            None if nothing had to be tokenized, because the text certainly fits.
    """

    text: str
    truncated: bool
    tokens: int | None = None


class PromptToken(NamedTuple):
    r"""
    A token of a prompt, for people to read.

    Attributes:
        id: The token id.
        text: The text that it stands for. Bytes that are only a part of a character are shown as
            escapes such as `\xe4`.
        control: Whether it is one of the model's added tokens, such as `<|im_start|>`, which only
            the template contains.
    """

    id: int
    text: str
    control: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    A prompt, for people to read.

    Attributes:
        text: The prompt as text, as it is sent to endpoints that do not accept token ids. User
            text is in NFC, and a space breaks up each control token in it, so that no tokenizer
            reads it as one.
        ids: The token ids that an engine receives. Empty for a server without a known tokenizer.
        truncated: Whether the document's end was cut off to fit `max_length`.
        tokens: The same tokens as `ids`, each with its text.
    """

    text: str
    ids: list[int]
    truncated: bool
    tokens: list[PromptToken] = field(default_factory=list, compare=False, repr=False)


class PromptBuilder(TextWriter):
    """
    Write the prompts of one model, as token ids or as text.

    Args:
        tokenizer: The text of the model's tokenizer.json.
        max_length: The maximum number of tokens in a prompt, including prefix and suffix.

    Raises:
        CheckpointError: The tokenizer cannot be read, lacks a control token of the prompt, or
            splits "yes" or "no" into several tokens.
        InputError: `max_length` leaves no room for a document.

    Attributes:
        yes: The token id of the answer "yes".
        no: The token id of the answer "no".
        prefix_ids: The token ids of the fixed part before the instruction.
        suffix_ids: The token ids of the fixed part after the document.
        control_ids: The ids of all added tokens. Encoding user text never yields one of them.
        label_length: The number of tokens of the label before the document.
        max_length: The maximum number of tokens in a prompt.
    """

    def __init__(self, tokenizer: str, max_length: int = DEFAULT_MAX_LENGTH) -> None:
        self._full, self._plain, added = read_tokenizer(tokenizer)
        full = self._full
        super().__init__(added)
        self.control_ids = frozenset(full.token_to_id(token) for token in added)
        self.yes, self.no = (_single(full, word) for word in ("yes", "no"))
        self.prefix_ids: list[int] = full.encode(PREFIX, add_special_tokens=False).ids
        self.suffix_ids: list[int] = full.encode(SUFFIX, add_special_tokens=False).ids
        # Without the space at its end, which becomes part of the first word's token.
        self.label_length = len(self._encode(DOCUMENT.rstrip()))
        self.max_length = max_length
        least = len(self.prefix_ids) + len(self.suffix_ids) + self.label_length + 1
        if max_length < least:
            raise InputError(
                f"max_length={max_length} is too small: the prompt's fixed parts and one token "
                f"of a document need {least}"
            )

    def encode(
        self, query: str, documents: Sequence[str], instruction: str | None = None
    ) -> list[EncodedPrompt]:
        """
        Return the prompt of each document, in order.

        The part that the prompts share is tokenized once, and the documents in one batch. For text
        without control tokens, the ids are those of the model card's full string. A document is
        truncated at the end if its prompt would exceed `max_length`, as in the model card's
        script. The suffix is never truncated.

        Args:
            query: The question or search text.
            documents: The texts to score.
            instruction: None uses the default instruction.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text contains a lone surrogate, so it is not Unicode text.
        """
        head, tails = self.encode_parts(query, documents, instruction)
        return [EncodedPrompt(head + tail.ids, tail.truncated) for tail in tails]

    def encode_parts(
        self, query: str, documents: Sequence[str], instruction: str | None = None
    ) -> tuple[list[int], list[EncodedPrompt]]:
        """
        Return the prompts of `encode()` in two parts.

        Args:
            query: The question or search text.
            documents: The texts to score.
            instruction: None uses the default instruction.

        Returns:
            The token ids that all prompts begin with, and the rest of each prompt, in order.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text contains a lone surrogate, so it is not Unicode text.
        """
        head = self._head(query, instruction)
        room = self._room(head, query, instruction)
        for index, document in enumerate(documents):
            check_unicode("document", document, index)
        return self.prefix_ids + head, [
            EncodedPrompt(ids[:room] + self.suffix_ids, len(ids) > room)
            for ids in self._plain.encode([DOCUMENT + document for document in documents])
        ]

    def truncate(
        self, query: str, documents: Sequence[str], instruction: str | None = None, spare: int = 0
    ) -> list[TruncatedText]:
        """
        Escape the control tokens of each document, and truncate it to fit `max_length`.

        Args:
            query: The question or search text.
            documents: The texts to score.
            instruction: None uses the default instruction.
            spare: The number of tokens to leave unused, for a template that the server writes.

        Returns:
            What is left of each document, in order.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text contains a lone surrogate, so it is not Unicode text.
        """
        query, instruction = (
            self.escape_control_tokens(query),
            self.escape_control_tokens(default_instruction(instruction)),
        )
        room = self._room(self._head(query, instruction), query, instruction, spare)
        for index, document in enumerate(documents):
            check_unicode("document", document, index)
        texts = [self.escape_control_tokens(document) for document in documents]
        fitted = [TruncatedText(text, truncated=False) for text in texts]
        # Offsets take ten times as long as ids, so they are computed only for texts that are too
        # long, and ids only for those that may be.
        maybe = [index for index, text in enumerate(texts) if not self._certainly_fits(text, room)]
        found = self._plain.encode([DOCUMENT + texts[index] for index in maybe])
        for index, ids in zip(maybe, found, strict=True):
            if len(ids) > room:
                fitted[index] = self._cut(texts[index], room)
            else:
                fitted[index] = TruncatedText(texts[index], truncated=False, tokens=len(ids))
        return fitted

    def prompt(self, query: str, document: str, instruction: str | None = None) -> Prompt:
        """
        Return the prompt of one document, as text and as token ids.

        Args:
            query: The question or search text.
            document: The text to score.
            instruction: None uses the default instruction.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text contains a lone surrogate, so it is not Unicode text.
        """
        encoded = self.encode(query, [document], instruction)[0]
        [sent] = self.truncate(query, [document], instruction)
        return Prompt(
            self.head(query, instruction) + self.tail(sent.text),
            encoded.ids,
            encoded.truncated,
            [self._token(number) for number in encoded.ids],
        )

    def _token(self, number: int) -> PromptToken:
        token = self._full.id_to_token(number)
        assert token is not None
        control = number in self.control_ids
        return PromptToken(number, token_text(token, added=control), control)

    def count(self, texts: Sequence[str]) -> list[int]:
        """
        Return how many tokens a server counts in each text.

        Args:
            texts: Prompts, parts of prompts, or plain texts. The prefix and the suffix count with
                their control tokens; in user text, control tokens have been escaped.
        """
        pieces = [text.removeprefix(PREFIX).removesuffix(SUFFIX) for text in texts]
        return [
            len(ids)
            + len(self.prefix_ids) * text.startswith(PREFIX)
            + len(self.suffix_ids) * text.endswith(SUFFIX)
            for text, ids in zip(texts, self._plain.encode(pieces), strict=True)
        ]

    def room(self, query: str, instruction: str | None = None) -> int:
        """
        Return how many tokens a document may have, as `document_lengths()` counts them.

        Longer ones are truncated. The number holds for prompts as token ids and as text.

        Args:
            query: The question or search text.
            instruction: None uses the default instruction.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text contains a lone surrogate, so it is not Unicode text.
        """
        texts = query, default_instruction(instruction)
        escaped = self.escape_control_tokens(texts[0]), self.escape_control_tokens(texts[1])
        rooms = (self._room(self._head(*head), *head) for head in {texts, escaped})
        return min(rooms) - self.label_length

    def document_lengths(self, documents: Sequence[str]) -> list[int]:
        """
        Return how many tokens each document takes up in a prompt.

        Escaped control tokens take up more than others, so that for a document that contains one it
        is the number in a prompt as text, if that is larger.

        Args:
            documents: The texts.
        """
        lengths = [
            len(ids) - self.label_length
            for ids in self._plain.encode([DOCUMENT + document for document in documents])
        ]
        for index, document in enumerate(documents):
            if self.has_control_token(document):
                escaped = DOCUMENT + self.escape_control_tokens(document)
                length = len(self._encode(escaped)) - self.label_length
                lengths[index] = max(lengths[index], length)
        return lengths

    def token_starts(self, document: str) -> list[int]:
        """Return the position in a document at which each of its tokens begins, in a prompt."""
        offsets = self._plain.offsets(DOCUMENT + document)[self.label_length :]
        starts = (max(0, start - len(DOCUMENT)) for start, _ in offsets)
        # The tokenizer's normalization may reorder accents.
        return list(accumulate(starts, max))

    @staticmethod
    def _certainly_fits(text: str, room: int) -> bool:
        """
        Return whether `<Document>: text` has at most `room` tokens, judging by its bytes.

        The text is in NFC, so that the tokenizer does not make it longer, and no token is shorter
        than a byte.
        """
        return len(DOCUMENT) + len(text.encode()) <= room

    def _cut(self, text: str, room: int) -> TruncatedText:
        """Return the beginning of a text, so that `<Document>: text` has `room` tokens."""
        while len(offsets := self._plain.offsets(DOCUMENT + text)) > room:
            # Cut where the first excess token begins. If it begins within a character, the whole
            # character is dropped.
            text = text[: max(0, offsets[room][0] - len(DOCUMENT))]
        return TruncatedText(text, truncated=True, tokens=len(offsets))

    def _encode(self, text: str) -> list[int]:
        return self._plain.encode([text])[0]

    def _head(self, query: str, instruction: str | None) -> list[int]:
        instruction = default_instruction(instruction)
        check_unicode("query", query)
        check_unicode("instruction", instruction)
        return self._encode(head_text(query, instruction))

    def _room(self, head: list[int], query: str, instruction: str | None, spare: int = 0) -> int:
        """Return the maximum number of tokens of `<Document>: ...`."""
        fixed = len(self.prefix_ids) + len(self.suffix_ids) + spare
        room = self.max_length - fixed - len(head)
        if room <= self.label_length:
            raise PromptTooLongError(
                f"no room for a document: of max_length={self.max_length} tokens the template "
                f"takes {fixed + self.label_length}, the instruction "
                f"{len(self._encode(default_instruction(instruction)))} and the query "
                f"{len(self._encode(query))}. Shorten them, or raise max_length"
            )
        return room


def _single(tokenizer: Tokenizer, word: str) -> int:
    ids: list[int] = tokenizer.encode(word, add_special_tokens=False).ids
    if len(ids) != 1:
        raise CheckpointError(
            f"the tokenizer splits {word!r} into {len(ids)} tokens {ids}; a Qwen3 reranker answers "
            "with the single tokens 'yes' and 'no'"
        )
    return ids[0]
