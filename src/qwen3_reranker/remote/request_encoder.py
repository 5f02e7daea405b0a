"""What a server is sent for a query and its documents: ids or text, whole prompts or plain texts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from qwen3_reranker import event_loop
from qwen3_reranker.dialects.base import TemplateBy, Text
from qwen3_reranker.errors import CheckpointError, InputError, PromptTooLongError
from qwen3_reranker.model.checkpoint import DEMO_MODEL, read_file
from qwen3_reranker.model.prompt import DEFAULT_MAX_LENGTH, PromptBuilder, TextWriter, check_unicode
from qwen3_reranker.scorer import digest

__all__ = [
    "EncodedRequest",
    "RequestEncoder",
    "ServerTokenizer",
    "cached_tokenizer",
    "load_tokenizer",
]

# A server's own template may have more to say than the model card's.
_SPARE = 64
# Tokens of a prompt with the default instruction, an empty query and an empty document.
_TEMPLATE_TOKENS = 73
# Bytes per token of English and Chinese text are 4 to 5; of numbers fewer, of blanks more.
_FEWEST_BYTES, _MOST_BYTES = 3, 8


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """
    What goes over the wire, and which documents were cut.

    The instruction is None where it is part of the prompt already, or the default.
    """

    query: Text
    documents: list[Text]
    truncated: list[bool]
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class ServerTokenizer:
    """A server that tokenizes for its clients: text to ids, and ids to text."""

    encode: Callable[[str], Awaitable[list[int]]]
    decode: Callable[[list[int]], Awaitable[str]]


class RequestEncoder:
    """
    Writes what one server is sent.

    Documents are cut at their end, before the template, so that the suffix always stays. That
    takes the model's tokenizer, here or on the server; with neither a text that is too long goes
    as it is, and the server says so.

    Args:
        tokenizer: The content of the model's tokenizer.json, None where it is not at hand.
        server: Asked instead, for texts that may be too long.
        max_length: The most tokens of a prompt.
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
        """What decides how texts are tokenized and where they are cut."""
        return digest([self._tokenizer, self._server is not None, self.max_length])

    @property
    def can_cut(self) -> bool:
        """Whether there is a tokenizer to count with, here or on the server."""
        return self.builder is not None or self._server is not None

    def shortened(self, max_length: int) -> RequestEncoder:
        """Return a writer of prompts that are no longer than that."""
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
        Return what to send.

        Args:
            query: What is asked.
            texts: The documents, none of them blank.
            instruction: Part of the prompt where the client writes it.
            template_by: Who writes the template.
            ids: Whether the server takes token ids; it gets them where a tokenizer is at hand.
            placeholders: What the server's own template replaces with the document. In the query
                each gets a space after its first character, so that it stays text.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            InputError: A text is not Unicode.
        """
        if template_by == "server":
            for placeholder in placeholders:
                query = query.replace(placeholder, f"{placeholder[0]} {placeholder[1:]}")
        if self.builder is not None:
            encode = partial(
                self._with_builder, self.builder, query, texts, instruction, template_by, ids=ids
            )
            return await event_loop.tokenize(encode, texts)
        check_unicode("query", query)
        check_unicode("instruction", instruction or "")
        for index, text in enumerate(texts):
            check_unicode("document", text, index)
        head = self._text.head(query, instruction)
        fitted = [(self._text.escape_control_tokens(text), False) for text in texts]
        if self._server is not None:
            fitted = await self._cut(self._server, head, [text for text, _ in fitted])
        return self._texts(query, fitted, instruction, template_by)

    def count(self, encoded: EncodedRequest, template_by: TemplateBy) -> tuple[int, int]:
        """
        Return the least and the most tokens that a server counts in what it was sent.

        Where the server writes the template, its tokens are not counted. The two are equal if there
        is a tokenizer here, and an estimate if there is none.
        """
        count = len(encoded.documents)
        if isinstance(encoded.query, list):
            tokens = count * len(encoded.query) + sum(map(len, encoded.documents))
            return tokens, tokens
        tails = [str(document) for document in encoded.documents]
        if self.builder is not None:
            tokens = sum(self.builder.count(tails))
            tokens += count * sum(self.builder.count([encoded.query, encoded.instruction or ""]))
            return tokens, tokens
        size = count * len((encoded.query + (encoded.instruction or "")).encode())
        size += sum(len(tail.encode()) for tail in tails)
        if template_by == "server":
            return size // _MOST_BYTES, size // _FEWEST_BYTES
        fixed = count * _TEMPLATE_TOKENS
        size -= count * len((self._text.head("") + self._text.tail("")).encode())
        return fixed + size // _MOST_BYTES, fixed + size // _FEWEST_BYTES

    def _with_builder(
        self,
        builder: PromptBuilder,
        query: str,
        texts: Sequence[str],
        instruction: str | None,
        template_by: TemplateBy,
        *,
        ids: bool,
    ) -> EncodedRequest:
        if ids and template_by == "client":
            head, tails = builder.encode_parts(query, texts, instruction)
            return EncodedRequest(
                head, [tail.ids for tail in tails], [tail.truncated for tail in tails]
            )
        spare = _SPARE if template_by == "server" else 0
        return self._texts(
            query, builder.truncate(query, texts, instruction, spare), instruction, template_by
        )

    def _texts(
        self,
        query: str,
        fitted: Sequence[tuple[str, bool]],
        instruction: str | None,
        template_by: TemplateBy,
    ) -> EncodedRequest:
        truncated = [cut for _, cut in fitted]
        if template_by == "server":
            return EncodedRequest(
                self._text.escape_control_tokens(query),
                [text for text, _ in fitted],
                truncated,
                None if instruction is None else self._text.escape_control_tokens(instruction),
            )
        tails: list[Text] = [self._text.tail(text) for text, _ in fitted]
        return EncodedRequest(self._text.head(query, instruction), tails, truncated)

    async def _cut(
        self, server: ServerTokenizer, head: str, texts: list[str]
    ) -> list[tuple[str, bool]]:
        """Cut the texts that do not fit, asking the server only about those that may not."""
        tail = self._text.tail("")
        fixed = len((head + tail).encode())
        if all(3 * (fixed + len(text.encode())) <= self.max_length for text in texts):
            return [(text, False) for text in texts]
        room = self.max_length - len(await server.encode(head + tail)) - _SPARE
        if room < 1:
            raise PromptTooLongError(
                f"no room for a document: of max_length={self.max_length} tokens the template, "
                f"the instruction and the query take {self.max_length - room}. Shorten them, or "
                "raise max_length"
            )

        async def one(text: str) -> tuple[str, bool]:
            if 3 * len(text.encode()) <= room or len(ids := await server.encode(text)) <= room:
                return text, False
            # A character that is cut in two is decoded as a replacement character.
            return (await server.decode(ids[:room])).rstrip("\ufffd"), True

        return await asyncio.gather(*map(one, texts))


def load_tokenizer(source: str) -> str:
    """
    Return the content of a tokenizer.json.

    Args:
        source: The file, a folder that holds it, a hub name or "demo".

    Raises:
        InputError: There is none.
    """
    path = Path(source).expanduser()
    try:
        return path.read_text("utf-8") if path.is_file() else read_file(source, "tokenizer.json")
    except CheckpointError as error:
        raise InputError(
            f"tokenizer={source!r} is no tokenizer.json, no folder that holds one and no model on "
            f"the hub: {error}"
        ) from None


def cached_tokenizer(name: str) -> str | None:
    """Return the tokenizer.json of a model if it lies on this machine, without asking the hub."""
    from huggingface_hub import try_to_load_from_cache

    try:
        folder = DEMO_MODEL if name == "demo" else Path(name).expanduser()
        path: object = folder / "tokenizer.json"
        if not folder.is_dir():
            found = try_to_load_from_cache(name, "tokenizer.json")
            path = Path(found) if isinstance(found, str) else None
        return path.read_text("utf-8") if isinstance(path, Path) and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a server may call its model anything
        return None
