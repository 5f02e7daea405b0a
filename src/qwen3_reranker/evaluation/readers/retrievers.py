"""Ask a retriever of LangChain or LlamaIndex, whichever it is, without importing either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qwen3_reranker.errors import InputError

__all__ = ["DISTINCT_IDS", "IdOf", "is_retriever", "retrieve"]

IdOf = Callable[[Any], str]
"""Returns the id of a LangChain `Document` or of a LlamaIndex node."""

DISTINCT_IDS = (
    "Judgments need an id for each text, so give id_of= to return one, such as "
    "lambda document: f\"{document.metadata['source']}#{document.metadata['start_index']}\""
)
"""What to do about documents without an id of their own."""


def is_retriever(value: object) -> bool:
    """Return whether a value has the method of a LangChain or LlamaIndex retriever."""
    return hasattr(value, "invoke") or hasattr(value, "retrieve")


def retrieve(retriever: Any, query: str, id_of: IdOf | None = None) -> list[tuple[str, str]]:
    """
    Return the id and the text of each document that a retriever finds, best first.

    Args:
        retriever: A LangChain retriever, or any runnable from a query to documents, or a
            LlamaIndex retriever.
        query: The question.
        id_of: Returns the id of a document or node. None uses LangChain's `Document.id` and
            LlamaIndex's `node_id`.

    Raises:
        InputError: A document has no id, or two documents have the same.
    """
    found: Sequence[Any]
    if hasattr(retriever, "invoke"):
        found = retriever.invoke(query)
        texts = [document.page_content for document in found]
    else:
        found = [item.node for item in retriever.retrieve(query)]
        texts = [_text_of(node) for node in found]
    ids = [_default_id(item) if id_of is None else id_of(item) for item in found]
    for index, name in enumerate(ids):
        where = f"document {index} that the retriever found for {query!r}"
        if not isinstance(name, str) or not name:
            raise InputError(f"{where} has the id {name!r}. {DISTINCT_IDS}")
        if name in ids[:index]:
            raise InputError(
                f"{where} has the id {name!r}, as document {ids.index(name)} has. {DISTINCT_IDS}"
            )
    return list(zip(ids, texts, strict=True))


def _default_id(item: Any) -> Any:
    return item.id if hasattr(item, "page_content") else item.node_id


def _text_of(node: Any) -> str:
    from llama_index.core.schema import MetadataMode

    # What the LlamaIndex adapter scores by default.
    return str(node.get_content(metadata_mode=MetadataMode.EMBED))
