"""Encode a query and documents into the form a server accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from qwen3_reranker import event_loop
from qwen3_reranker.dialects import TemplateBy
from qwen3_reranker.dialects.base import Text
from qwen3_reranker.errors import PromptTooLongError
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH, PromptBuilder, TruncatedText
from qwen3_reranker.model.template import TEMPLATE_TOKENS, TextWriter, check_unicode
from qwen3_reranker.remote.tokenizers import ServerTokenizer
from qwen3_reranker.scorer import digest

__all__ = ["EncodedRequest", "RequestEncoder"]

# Tokens that are left free for a template written by the server, which may be longer than the
# model card's.
_SPARE = 64
# English and Chinese text has four to five bytes per token, numbers fewer, and spaces more.
_MIN_TOKEN_BYTES, _MAX_TOKEN_BYTES = 3, 8


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """
    A query and documents as they are sent to a server.

    Attributes:
        query: The query; or, where the client writes the template, the prompt up to the document.
        documents: The documents; or, where the client writes the template, the rest of each
            prompt.
        truncated: For each document, whether its end was cut off.
        instruction: The instruction for a server that writes the template. None if the prompt
            already contains it, or if it is the default.
    """

    query: Text
    documents: list[Text]
    truncated: list[bool]
    instruction: str | None = None
    counts: Sequence[int | None] = field(default=(), compare=False)

    @property
    def tokens(self) -> int | None:
        """The number of tokens of all prompts together; None if they are sent as text."""
        if isinstance(self.query, str):
            return None
        return len(self.query) * len(self.documents) + sum(map(len, self.documents))


class RequestEncoder:
    """
    Encode requests for one server, as token ids or as text.

    Documents are cut at their end, before the template is added, so that the prompt's suffix is
    always complete. This requires the model's tokenizer, either on this machine or on the server.
    Without one, documents are sent whole, and the server refuses those that are too long.

    Args:
        tokenizer: The content of the model's tokenizer.json; None if it is not on this machine.
        server: The server's tokenizer, which is used if `tokenizer` is None, for texts that may be
            too long.
        max_length: The maximum number of tokens in a prompt.

    Attributes:
        builder: Builds prompts with `tokenizer`; None without it.
        max_length: The maximum number of tokens in a prompt.
    """

    def __init__(
        self,
        tokenizer: str | None,
        server: ServerTokenizer | None = None,
        max_length: int = DEFAULT_MAX_LENGTH,
    ) -> None:
        self.builder = None if tokenizer is None else PromptBuilder(tokenizer, max_length)
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._server = server
        self._text = self.builder or TextWriter()

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything that decides how texts are tokenized and truncated."""
        return digest([self._tokenizer, self._server is not None, self.max_length])

    def builder_for(self, template_by: TemplateBy) -> PromptBuilder | None:
        """
        Return what measures documents as `encode()` truncates them.

        Args:
            template_by: Whether the client or the server writes the template.

        Returns:
            A prompt builder. None if the tokenizer is not on this machine.
        """
        return self.builder if template_by == "client" else self._plain_builder

    @cached_property
    def _plain_builder(self) -> PromptBuilder | None:
        """The prompt builder for a server that writes the template."""
        if self._tokenizer is None:
            return None
        return PromptBuilder(self._tokenizer, self.max_length - _SPARE)

    @property
    def can_truncate(self) -> bool:
        """Whether there is a tokenizer to count tokens with, on this machine or on the server."""
        return self.builder is not None or self._server is not None

    def shortened(self, max_length: int) -> RequestEncoder:
        """Return an encoder whose prompts have at most `max_length` tokens."""
        if max_length >= self.max_length:
            return self
        return RequestEncoder(self._tokenizer, self._server, max_length)

    async def encode(
        self,
        query: str,
        texts: Sequence[str],
        instruction: str | None,
        template_by: TemplateBy,
        *,
        ids: bool,
        placeholders: Sequence[str] = (),
    ) -> EncodedRequest:
        """
        Encode a query and documents.

        Args:
            query: The query.
            texts: The documents, none of them blank.
            instruction: The instruction; None stands for the default.
            template_by: Whether the client or the server writes the template.
            ids: Whether the server accepts token ids. They are sent if the tokenizer is on this
                machine.
            placeholders: Strings that the server's template replaces with the document, even in
                the query. Each gets a space after its first character, so that it stays as text.

        Raises:
            PromptTooLongError: The instruction and the query leave no room for a document.
            InputError: A text contains a lone surrogate, so it is not Unicode text.
        """
        if template_by == "server":
            for placeholder in placeholders:
                query = query.replace(placeholder, f"{placeholder[0]} {placeholder[1:]}")
        if self.builder is not None:
            encode = partial(
                self._encode_here, self.builder, query, texts, instruction, template_by, ids=ids
            )
            return await event_loop.tokenize(encode, texts)
        check_unicode("query", query)
        check_unicode("instruction", instruction or "")
        for index, text in enumerate(texts):
            check_unicode("document", text, index)
        head = self._text.head(query, instruction)
        fitted = [
            TruncatedText(self._text.escape_control_tokens(text), truncated=False) for text in texts
        ]
        if self._server is not None:
            fitted = await self._truncate(self._server, head, [text.text for text in fitted])
        return self._as_text(query, fitted, instruction, template_by)

    def count(self, encoded: EncodedRequest, template_by: TemplateBy) -> tuple[int, int]:
        """
        Return the minimum and maximum number of tokens that a server should count for a request.

        A template that the server writes is not included. The two numbers are equal if the
        tokenizer is on this machine, and an estimate otherwise.

        Args:
            encoded: The request.
            template_by: Whether the client or the server writes the template.
        """
        count = len(encoded.documents)
        if (tokens := encoded.tokens) is not None:
            return tokens, tokens
        assert isinstance(encoded.query, str)
        tails = [str(document) for document in encoded.documents]
        if self.builder is not None:
            counts = encoded.counts or [None] * count
            counted = sum(known for known in counts if known is not None)
            unknown = [tail for tail, known in zip(tails, counts, strict=True) if known is None]
            tokens = counted + sum(self.builder.count(unknown))
            tokens += count * sum(self.builder.count([encoded.query, encoded.instruction or ""]))
            return tokens, tokens
        size = count * len((encoded.query + (encoded.instruction or "")).encode())
        size += sum(len(tail.encode()) for tail in tails)
        if template_by == "server":
            return size // _MAX_TOKEN_BYTES, size // _MIN_TOKEN_BYTES
        fixed = count * TEMPLATE_TOKENS
        size -= count * len((self._text.head("") + self._text.tail("")).encode())
        return fixed + size // _MAX_TOKEN_BYTES, fixed + size // _MIN_TOKEN_BYTES

    def _encode_here(
        self,
        builder: PromptBuilder,
        query: str,
        texts: Sequence[str],
        instruction: str | None,
        template_by: TemplateBy,
        *,
        ids: bool,
    ) -> EncodedRequest:
        """Encode with the tokenizer on this machine."""
        if ids and template_by == "client":
            head, tails = builder.encode_parts(query, texts, instruction)
            return EncodedRequest(
                head, [tail.ids for tail in tails], [tail.truncated for tail in tails]
            )
        spare = _SPARE if template_by == "server" else 0
        fitted = builder.truncate(query, texts, instruction, spare)
        # `count()` then has nothing to tokenize a second time. A server that writes the template
        # is sent no label and no suffix.
        more = len(builder.suffix_ids) if template_by == "client" else -builder.label_length
        return replace(
            self._as_text(query, fitted, instruction, template_by),
            counts=[None if text.tokens is None else text.tokens + more for text in fitted],
        )

    def _as_text(
        self,
        query: str,
        fitted: Sequence[TruncatedText],
        instruction: str | None,
        template_by: TemplateBy,
    ) -> EncodedRequest:
        """Encode as text."""
        truncated = [text.truncated for text in fitted]
        if template_by == "server":
            return EncodedRequest(
                self._text.escape_control_tokens(query),
                [text.text for text in fitted],
                truncated,
                None if instruction is None else self._text.escape_control_tokens(instruction),
            )
        tails: list[Text] = [self._text.tail(text.text) for text in fitted]
        return EncodedRequest(self._text.head(query, instruction), tails, truncated)

    async def _truncate(
        self, server: ServerTokenizer, head: str, texts: list[str]
    ) -> list[TruncatedText]:
        """Truncate documents with the server's tokenizer, which is sent only the long ones."""
        tail = self._text.tail("")
        fixed = len((head + tail).encode())
        longest = max(len(text.encode()) for text in texts)
        # In NFC, a text never has more tokens than bytes.
        if fixed + longest <= self.max_length:
            return [TruncatedText(text, truncated=False) for text in texts]
        room = self.max_length - len(await server.encode(head + tail)) - _SPARE
        if room < 1:
            raise PromptTooLongError(
                f"no room for a document: of max_length={self.max_length} tokens the template, "
                f"the instruction and the query take {self.max_length - room}. Shorten them, or "
                "raise max_length"
            )
        return await event_loop.gather(_fit(server, text, room) for text in texts)


async def _fit(server: ServerTokenizer, text: str, room: int) -> TruncatedText:
    """Return a document cut to `room` tokens."""
    if len(text.encode()) <= room:
        return TruncatedText(text, truncated=False)
    ids = await server.encode(text)
    if len(ids) <= room:
        return TruncatedText(text, truncated=False)
    # Half a character is decoded as a replacement character.
    return TruncatedText((await server.decode(ids[:room])).rstrip("\ufffd"), truncated=True)
