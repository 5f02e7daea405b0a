"""Score the candidates of every query once, and rank them at any depth."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
        truncated: How many of them were cut to fit `max_length`.
    """

    values: array[float]
    logits: array[float]
    truncated: int

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
    Score the first candidates of every query.

    Queries are read as they are needed, so the memory that this takes, beside the dataset, grows
    only by 16 bytes per score.

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

    def pairs() -> Iterator[tuple[str, list[str]]]:
        for query, ids in candidates.items():
            yield dataset.queries[query], [dataset.documents[name] for name in ids[:depth]]

    found = {}
    stream = reranker.rerank_iter(pairs(), instruction=instruction)
    for query, hits in zip(candidates, stream, strict=True):
        values, logits = (array("d", bytes(8 * len(hits))) for _ in range(2))
        for hit in hits:
            values[hit.index], logits[hit.index] = hit.score, hit.logit
        truncated = sum(hit.truncated for hit in hits)
        found[query] = CandidateScores(values, logits, truncated)
        on_progress(len(hits))
    return found


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
    found = {}
    for query, ids in candidates.items():
        order = scores[query].order(depth)
        found[query] = [ids[index] for index in order] + list(ids[len(order) :])
    return found
