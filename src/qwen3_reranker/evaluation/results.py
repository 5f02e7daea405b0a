"""The parts of a report: plain data that JSON can hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qwen3_reranker.evaluation.statistics import TINY

__all__ = [
    "Advice",
    "Change",
    "Changes",
    "DatasetSummary",
    "DepthCurve",
    "Headroom",
    "MinScoreCurve",
    "NothingRelevant",
    "Reliability",
    "ScoreCurves",
    "ScoreHistogram",
    "SystemResult",
    "TopDocument",
    "TopNCurve",
    "best_of",
    "differ_only_in",
]

_SETTINGS = ("reranker", "instruction", "depth")


@dataclass(frozen=True)
class DatasetSummary:
    """
    What was evaluated.

    Attributes:
        name: The dataset's name.
        first_stage: Where the candidates come from, such as "BM25".
        queries: The number of queries with a relevant document, which metrics are about.
        queries_without_relevant: The number of judged queries without a relevant document. They
            count only for what scores say, in `ScoreCurves`, because no order of their documents is
            better than another.
        queries_without_candidates: The number of those among `queries` for which the first stage
            found no document. Every metric counts them as 0.
        candidates: The number of pairs of a query, of either kind, and a candidate.
        min_grade: The lowest grade that counts as relevant.
    """

    name: str
    first_stage: str
    queries: int
    queries_without_relevant: int
    queries_without_candidates: int
    candidates: int
    min_grade: int


@dataclass(frozen=True)
class TopDocument:
    """
    The first document of a ranking.

    Attributes:
        id: Its id.
        text: The beginning of its text.
        grade: Its grade. None if it is unjudged.
        score: P(yes). None in the retriever's order.
    """

    id: str
    text: str
    grade: int | None
    score: float | None = None


@dataclass(frozen=True)
class Change:
    """
    A query that a system made worse.

    Attributes:
        query: Its id.
        text: Its text.
        before: The first metric with the retriever's order.
        after: The first metric with the system.
        top_before: What was on top before. None if the retriever found nothing.
        top_after: What is on top with the system.
    """

    query: str
    text: str
    before: float
    after: float
    top_before: TopDocument | None
    top_after: TopDocument | None


@dataclass(frozen=True)
class Changes:
    """
    How many queries a system made better or worse, by the first metric.

    Attributes:
        helped: The number of queries that are better than in the retriever's order.
        unchanged: The number of queries that are neither better nor worse.
        hurt: The number of queries that are worse.
        worst: The ten queries that lost most, worst first.
    """

    helped: int
    unchanged: int
    hurt: int
    worst: list[Change]


@dataclass(frozen=True)
class DepthCurve:
    """
    Quality by how many candidates are reranked.

    Attributes:
        depth: The numbers of candidates, ascending.
        metrics: The mean of each metric at each depth.
    """

    depth: list[int]
    metrics: dict[str, list[float]]


@dataclass(frozen=True)
class TopNCurve:
    """
    Quality by how many documents are handed to the LLM.

    Attributes:
        top_n: The numbers of documents, ascending.
        recall: The mean share of all relevant documents that are among them.
        hit: The share of queries with a relevant document among them.
        precision: The mean share of relevant documents among them.
        tokens: The mean number of tokens that they have together. None if no tokenizer is known.
    """

    top_n: list[int]
    recall: list[float]
    hit: list[float]
    precision: list[float]
    tokens: list[float] | None


@dataclass(frozen=True)
class MinScoreCurve:
    """
    What a threshold keeps, over all scored candidates of all queries.

    Attributes:
        min_score: The thresholds, ascending.
        precision: The share of relevant documents among those kept. None if none is kept.
        recall: The share of the relevant candidates that are kept.
        documents: The mean number of documents kept per query.
    """

    min_score: list[float]
    precision: list[float | None]
    recall: list[float]
    documents: list[float]


@dataclass(frozen=True)
class ScoreHistogram:
    """
    How the scores of relevant and irrelevant candidates are distributed.

    Attributes:
        edges: The bounds of the bins, ascending; one more than bins. A bin includes its lower
            bound, and the last one its upper bound too.
        relevant: The number of relevant candidates in each bin.
        irrelevant: The number of irrelevant and unjudged candidates in each bin.
    """

    edges: list[float]
    relevant: list[int]
    irrelevant: list[int]


@dataclass(frozen=True)
class Reliability:
    """
    What a score is worth: how many of the candidates with such a score are relevant.

    Attributes:
        edges: The bounds of the bins, ascending; one more than bins.
        count: The number of candidates in each bin.
        score: Their mean score. None in an empty bin.
        relevant: The share of them that is relevant. None in an empty bin.
        ece: The expected calibration error, in [0, 1]: the mean distance of score and share,
            weighted by the number of candidates. 0 means that a score is a probability.
    """

    edges: list[float]
    count: list[int]
    score: list[float | None]
    relevant: list[float | None]
    ece: float


@dataclass(frozen=True)
class NothingRelevant:
    """
    How a threshold does on queries that have no relevant candidate.

    These are the dataset's queries without a relevant document, and the others with their relevant
    candidates left out.

    Attributes:
        min_score: The thresholds, ascending.
        false_accept: The share of those queries in which a document still reaches the threshold.
        answered: For comparison, the share of the queries with relevant candidates in which a
            relevant one reaches it.
        queries: The number of queries without a relevant candidate.
    """

    min_score: list[float]
    false_accept: list[float]
    answered: list[float]
    queries: int


@dataclass(frozen=True)
class ScoreCurves:
    """
    What a system's scores say, at its depth.

    Attributes:
        depth: Quality by how many candidates are reranked.
        min_score: What a threshold keeps.
        histogram: The scores of relevant and irrelevant candidates.
        reliability: What a score is worth.
        nothing_relevant: A threshold on queries that have no relevant candidate.
    """

    depth: DepthCurve
    min_score: MinScoreCurve
    histogram: ScoreHistogram
    reliability: Reliability
    nothing_relevant: NothingRelevant


@dataclass(frozen=True)
class SystemResult:
    """
    How good a system is.

    Attributes:
        name: Its name; "retriever" for the retriever's order.
        model: The model's name. None for the retriever.
        base_url: The URLs of its servers.
        instruction: Its instruction. None for the default one.
        max_length: The maximum number of tokens in a prompt. None for the default.
        depth: How many candidates were reranked. None for all.
        reranker: The number of its reranker, from 0: systems with the same number differ only in
            instruction and depth. None for the retriever.
        metrics: The mean of each metric.
        intervals: The 95 % bootstrap interval of each mean: low and high.
        differences: Each mean less the retriever's.
        difference_intervals: The 95 % bootstrap interval of each difference.
        p_values: The p-value of each difference, by a paired randomization test.
        judged: The share of judged documents among the first ones, as many as the first metric
            counts. Where it is low, the metrics underrate the system.
        truncated: The share of the scored documents that were cut to fit `max_length`.
        per_query: The values of each metric, in the order of the report's `queries`.
        changes: Queries helped and hurt. None for the retriever.
        top_n: Quality by how many documents are handed to the LLM.
        curves: What the scores say. None for the retriever.
    """

    name: str
    model: str | None
    base_url: list[str]
    instruction: str | None
    max_length: int | None
    depth: int | None
    reranker: int | None
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    differences: dict[str, float]
    difference_intervals: dict[str, list[float]]
    p_values: dict[str, float]
    judged: float
    truncated: float
    per_query: dict[str, list[float]]
    changes: Changes | None
    top_n: TopNCurve
    curves: ScoreCurves | None


def best_of(systems: Iterable[SystemResult], metric: str) -> SystemResult:
    """Return the system with the highest mean of a metric; the first one among equals."""
    best, *others = systems
    for system in others:
        if system.metrics[metric] > best.metrics[metric] + TINY:
            best = system
    return best


def differ_only_in(
    setting: Literal["instruction", "depth"], one: SystemResult, other: SystemResult
) -> bool:
    """Return whether two systems have the same settings, apart perhaps from one of them."""
    return all(getattr(one, name) == getattr(other, name) for name in _SETTINGS if name != setting)


@dataclass(frozen=True)
class Headroom:
    """
    What any reranker could gain on these candidates.

    Attributes:
        depth: The numbers of candidates, ascending.
        recall: The mean share of all relevant documents that are among so many candidates.
        hit: The share of queries with a relevant document among so many candidates.
        perfect: The mean of each metric if so many candidates were in perfect order.
    """

    depth: list[int]
    recall: list[float]
    hit: list[float]
    perfect: dict[str, list[float]]


@dataclass(frozen=True)
class Advice:
    """
    A recommendation.

    Attributes:
        topic: "rerank", "headroom", "depth", "top_n", "min_score" or "instruction".
        value: What is recommended: whether to rerank, a number, or an instruction, which may be
            the default one. None if nothing can be recommended.
        text: The recommendation in plain words, with the numbers behind it.
    """

    topic: str
    value: bool | int | float | str | None
    text: str
