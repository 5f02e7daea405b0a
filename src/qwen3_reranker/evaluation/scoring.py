"""Score the candidates of every query once, and rank them at any depth."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from qwen3_reranker.errors import ScoreError
from qwen3_reranker.evaluation.dataset import Dataset
from qwen3_reranker.reranker import Reranker

__all__ = ["CandidateScores", "rankings", "score_candidates"]


@dataclass(frozen=True, slots=True)
class CandidateScores:
    """
    The scores of a query's candidates, in the retriever's order.

    Attributes:
        values: P(yes) of each candidate that was scored, in [0, 1].
        logits: Their log-odds, which decide between equal values.
        truncated: 1 for each of them that was cut to fit `max_length`, 0 for the others.
    """

    values: array[float]
    logits: array[float]
    truncated: array[int]

    def first(self, depth: int | None) -> Self:
        """Return the scores of the first `depth` candidates. None returns all."""
        return type(self)(self.values[:depth], self.logits[:depth], self.truncated[:depth])

    def order(self, depth: int | None = None) -> list[int]:
        """
        Return the positions of the first `depth` candidates, by descending score.

        Ties keep the retriever's order, as in `Reranker.rerank()`.
        """
        values, logits = self.values, self.logits
        positions = range(len(values) if depth is None else min(depth, len(values)))
        return sorted(positions, key=lambda index: (-values[index], -logits[index]))


def score_candidates(
    reranker: Reranker,
    dataset: Dataset,
    candidates: Mapping[str, Sequence[str]],
    *,
    instruction: str | None = None,
    depth: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> dict[str, CandidateScores]:
    """
    Score the first candidates of every query; those of queries with equal texts only once.

    Queries are read as they are needed, so the memory that this takes, beside the dataset, grows
    only by 17 bytes per score.

    Args:
        reranker: The reranker.
        dataset: Has the texts.
        candidates: The document ids of each query, best first.
        instruction: Replaces the reranker's own instruction.
        depth: How many candidates per query are scored. None scores all.
        on_progress: Called after each query with the number of documents.

    Returns:
        The scores by query id, in the order of `candidates`.

    Raises:
        RerankerError: Scoring failed. What was scored before is in the reranker's cache.
    """
    queries_of: dict[str, list[str]] = {}
    for query in candidates:
        queries_of.setdefault(dataset.queries[query], []).append(query)

    def documents_of(queries: Sequence[str]) -> dict[str, None]:
        """Return the ids of the candidates of these queries, each once."""
        return dict.fromkeys(name for query in queries for name in candidates[query][:depth])

    def pairs() -> Iterator[tuple[str, list[str]]]:
        for text, queries in queries_of.items():
            yield text, [dataset.documents[name] for name in documents_of(queries)]

    scores = {}
    stream = reranker.rerank_iter(pairs(), instruction=instruction)
    for queries, hits in zip(queries_of.values(), stream, strict=True):
        if hits and (error := hits[0].error) is not None:  # with on_error="keep_order"
            raise ScoreError(f"the documents of query {queries[0]!r} were not scored: {error}")
        by_index = sorted(hits, key=lambda hit: hit.index)
        hit_of = dict(zip(documents_of(queries), by_index, strict=True))
        for query in queries:
            row = [hit_of[name] for name in candidates[query][:depth]]
            scores[query] = CandidateScores(
                array("d", [hit.score for hit in row]),
                array("d", [hit.logit for hit in row]),
                array("b", [hit.truncated for hit in row]),
            )
            on_progress(len(row))
    return {query: scores[query] for query in candidates}


def rankings(
    candidates: Mapping[str, Sequence[str]],
    scores: Mapping[str, CandidateScores],
    depth: int | None = None,
) -> dict[str, list[str]]:
    """
    Return the document ids of every query as a system with this depth ranks them.

    The first `depth` candidates come by descending score, then the others in the retriever's order.

    Args:
        candidates: The document ids of each query, best first.
        scores: The scores of the candidates.
        depth: How many candidates are reranked. None reranks all that have a score.
    """
    ranked = {}
    for query, ids in candidates.items():
        order = scores[query].order(depth)
        ranked[query] = [ids[index] for index in order] + list(ids[len(order) :])
    return ranked
