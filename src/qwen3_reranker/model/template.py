"""The template of Qwen3-Reranker's prompt, and prompts as text."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from qwen3_reranker.errors import InputError

__all__ = [
    "CONTROL_TOKENS",
    "DEFAULT_INSTRUCTION",
    "DOCUMENT",
    "PREFIX",
    "SUFFIX",
    "TEMPLATES",
    "TEMPLATE_TOKENS",
    "TextWriter",
    "check_unicode",
    "default_instruction",
    "head_text",
]

PREFIX = (
    "<|im_start|>system\n"
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
# It ends with two newlines, after which the model was trained to answer.
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
# The added tokens of the Qwen3 tokenizer (tokenizer.json of Qwen/Qwen3-Reranker-0.6B), to use where
# the model's own tokenizer is not available.
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
DOCUMENT = "<Document>: "
TEMPLATE_TOKENS = 73
"""
The number of tokens of a prompt with the default instruction, without query and document.

It is the count of the Qwen3 tokenizer, for estimates where the tokenizer is not available.
"""
TEMPLATES = Path(__file__).parent / "templates"
"""The folder of the chat templates that write the prompt in other programs."""


class TextWriter:
    """
    Write prompts as text, with user text in NFC and its control tokens broken up.

    Qwen3's tokenizer normalizes text to NFC first. llama.cpp's copy of it does not (read and run
    in b11549), and would encode decomposed accents as other tokens.

    Args:
        control_tokens: The tokens that no tokenizer may find in user text.
    """

    def __init__(self, control_tokens: Sequence[str] = CONTROL_TOKENS) -> None:
        self._control = _first_characters(control_tokens)

    def escape_control_tokens(self, text: str) -> str:
        """Return the text in NFC, with a space after the first character of each control token."""
        return self._control.sub(r"\g<0> ", unicodedata.normalize("NFC", text))

    def has_control_token(self, text: str) -> bool:
        """Return whether the text has a control token, which `escape_control_tokens` breaks up."""
        return self._control.search(text) is not None

    def head(self, query: str, instruction: str | None = None) -> str:
        """
        Return the part of the prompt before the document, including the prefix.

        Args:
            query: The question or search text.
            instruction: None uses the default instruction.
        """
        return PREFIX + head_text(
            self.escape_control_tokens(query),
            self.escape_control_tokens(default_instruction(instruction)),
        )

    def tail(self, document: str) -> str:
        """
        Return the rest of the prompt, including the suffix.

        Args:
            document: The text, in which control tokens have been escaped already.
        """
        return DOCUMENT + document + SUFFIX


def head_text(query: str, instruction: str) -> str:
    """
    Return the part of the prompt between the prefix and the document.

    Args:
        query: The question or search text.
        instruction: What makes a document a good match.
    """
    return f"<Instruct>: {instruction}\n<Query>: {query}\n"


def default_instruction(instruction: str | None) -> str:
    """Return the instruction, or the default one if it is None."""
    return DEFAULT_INSTRUCTION if instruction is None else instruction


def _first_characters(tokens: Sequence[str]) -> re.Pattern[str]:
    """Match the first character of each token, even if tokens overlap."""
    rests = defaultdict(list)
    for token in tokens:
        if len(token) > 1:
            rests[token[0]].append(re.escape(token[1:]))
    # A pattern that begins with a character, such as "<", is searched for quickly.
    patterns = (f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items())
    return re.compile("|".join(patterns) or r"(?!)")


def check_unicode(name: str, text: str, index: int | None = None) -> None:
    """
    Check that a text is Unicode text.

    Args:
        name: What the text is, for the message.
        text: The text.
        index: Its position in a list, for the message. None if it is not in a list.

    Raises:
        InputError: The text contains a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = name if index is None else f"{name} {index}"
        raise InputError(
            f"{what} contains the lone surrogate U+{ord(text[error.start]):04X} at character "
            f"{error.start}, so it is not Unicode text: remove it, or replace it as "
            "text.encode(errors='replace').decode() does"
        ) from None
