"""Find the candidates of each query: with BM25, or with a retriever of LangChain or LlamaIndex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwen3_reranker.errors import InputError, MissingDependencyError
from qwen3_reranker.evaluation.readers.retrievers import IdOf, is_retriever, retrieve

__all__ = ["DEFAULT_DEPTH", "bm25", "candidates_of", "name_of"]

DEFAULT_DEPTH = 100
"""The number of candidates that a first stage keeps per query."""


def name_of(first_stage: Any) -> str:
    """Return what reports call a first stage."""
    return "BM25" if first_stage == "bm25" else type(first_stage).__name__


def candidates_of(
    first_stage: Any,
    queries: Mapping[str, str],
    documents: Mapping[str, str],
    depth: int,
    id_of: IdOf | None = None,
) -> dict[str, list[str]]:
    """
    Return the ids of the documents that a first stage finds for each query, best first.

    Args:
        first_stage: "bm25", or a LangChain or LlamaIndex retriever.
        queries: The text of each query by its id.
        documents: The text of each document by its id.
        depth: The number of candidates to keep per query, 1 or more.
        id_of: Returns the id of a document or node that a retriever finds.

    Raises:
        InputError: An argument cannot be used, or a retriever finds an unknown document.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError(f"depth={depth!r}: give a whole number of at least 1")
    if first_stage == "bm25":
        return bm25(queries, documents, depth)
    if not is_retriever(first_stage):
        raise InputError(
            f"first_stage={first_stage!r}: give 'bm25', or a LangChain or LlamaIndex retriever"
        )
    found = {}
    for query, text in queries.items():
        ids = [document for document, _ in retrieve(first_stage, text, id_of)][:depth]
        for document in ids:
            if document not in documents:
                raise InputError(
                    f"the retriever found document {document!r}, which the dataset does not have: "
                    "give id_of= to return the dataset's id of a document"
                )
        found[query] = ids
    return found


def bm25(
    queries: Mapping[str, str], documents: Mapping[str, str], depth: int
) -> dict[str, list[str]]:
    """
    Return BM25's best documents for each query; those that share no word are left out.

    Args:
        queries: The text of each query by its id.
        documents: The text of each document by its id.
        depth: The number of documents to keep per query, 1 or more.

    Returns:
        Document ids by query id, best first; equal scores in the order of `documents`.
    """
    try:
        import bm25s
    except ImportError as error:
        raise MissingDependencyError(
            f"BM25 needs bm25s: pip install 'qwen3-reranker[evaluation]' ({error})"
        ) from error
    ids = list(documents)
    depth = min(depth, len(ids))
    words = _tokens(bm25s, list(documents.values()))
    vocabulary = set().union(*words)
    asked = [
        [word for word in row if word in vocabulary] for row in _tokens(bm25s, [*queries.values()])
    ]
    found: dict[str, list[str]] = {query: [] for query in queries}
    if not any(asked):
        return found
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    for query, row in zip(queries, asked, strict=True):
        if row:
            found[query] = [ids[number] for number in _best(index.get_scores(row), depth)]
    return found


def _best(scores: NDArray[np.floating[Any]], depth: int) -> list[int]:
    """Return the positions of the highest scores above 0, equal ones in order."""
    lowest = np.partition(scores, -depth)[-depth]
    matches = np.flatnonzero((scores >= lowest) & (scores > 0))
    order = np.argsort(-scores[matches], kind="stable")[:depth]
    positions: list[int] = matches[order].tolist()
    return positions


def _tokens(bm25s: Any, texts: list[str]) -> list[list[str]]:
    tokens = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
    return [list(row) for row in tokens]
