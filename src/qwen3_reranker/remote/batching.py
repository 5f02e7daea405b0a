"""Split the documents of a call into requests that respect a server's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_reranker.dialects import Limits
from qwen3_reranker.model.template import TEMPLATE_TOKENS
from qwen3_reranker.usage import Usage

__all__ = ["Parts", "split"]

# The longest UTF-8 encoding of a character, in bytes.
_CHARACTER_BYTES = 4
# Bytes per token, for an estimate that needs no tokenizer and is rarely too low. English and
# Chinese text has four to five.
_TOKEN_BYTES = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """
    The parts of a request that is too large.

    Attributes:
        texts: The texts of each part.
        halved: Whether a server refused the request, which was split in two. If not, it was split
            by the limits of the server before it was sent.
        spent: What the attempts to send the whole took.
    """

    texts: Sequence[Sequence[str]]
    halved: bool
    spent: Usage


def split(query: str, texts: Sequence[str], limits: Limits) -> list[range]:
    """
    Split documents into consecutive requests.

    Args:
        query: The query, which is part of every prompt.
        texts: The documents, at least one.
        limits: The limits of one request. A document that alone exceeds them gets a request of its
            own.

    Returns:
        Ranges of indexes into `texts`, in order, one per request.
    """
    # The usual case, decided without encoding each document.
    within_size = _CHARACTER_BYTES * sum(map(len, texts)) <= limits.size
    if len(texts) <= limits.documents and within_size and limits.tokens is None:
        return [range(len(texts))]
    query_size = len(query.encode())
    requests: list[range] = []
    start = size = tokens = 0
    for index, text in enumerate(texts):
        text_size = len(text.encode())
        text_tokens = (query_size + text_size) // _TOKEN_BYTES + TEMPLATE_TOKENS
        full = (
            index - start >= limits.documents
            or size + text_size > limits.size
            or (limits.tokens is not None and tokens + text_tokens > limits.tokens)
        )
        if full and index > start:
            requests.append(range(start, index))
            start, size, tokens = index, 0, 0
        size += text_size
        tokens += text_tokens
    return [*requests, range(start, len(texts))]
