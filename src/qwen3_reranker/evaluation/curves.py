"""What scores and orders say beyond one number: curves, calibration and headroom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qwen3_reranker.evaluation.metrics import Floats, Metric, measure
from qwen3_reranker.evaluation.results import (
    DepthCurve,
    Headroom,
    MinScoreCurve,
    NothingRelevant,
    Reliability,
    ScoreCurves,
    ScoreHistogram,
    TopNCurve,
)
from qwen3_reranker.evaluation.scoring import CandidateScores, rankings

__all__ = ["Judged", "headroom", "score_curves", "top_n_curve"]

_DEPTHS = (1, 2, 3, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
_TOP_N = 20
_STEPS = 100  # of the thresholds from 0 to 1, and of the quantiles of scores
_DIGITS = 1_000_000  # thresholds have six decimals
_HISTOGRAM_BINS = 20
_RELIABILITY_BINS = 10


@dataclass(frozen=True)
class Judged:
    """
    The candidates of the judged queries, with judgments.

    Attributes:
        candidates: The document ids of each query that has a relevant document, best first.
        judgments: The grade of each judged document, by query id and document id.
        metrics: What to measure.
        min_grade: The lowest grade that counts as relevant.
        without_relevant: The document ids of each query without a relevant document. They count
            only for what scores say, because no order of them is better than another.
    """

    candidates: Mapping[str, Sequence[str]]
    judgments: Mapping[str, Mapping[str, int]]
    metrics: Sequence[Metric]
    min_grade: int
    without_relevant: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def scored(self) -> dict[str, Sequence[str]]:
        """The document ids of all queries, first of those that have a relevant document."""
        return {**self.candidates, **self.without_relevant}

    def measure(
        self, ranked: Mapping[str, Sequence[str]], metrics: Sequence[Metric] | None = None
    ) -> dict[str, Floats]:
        """Return one value per query for each metric, by its name."""
        return measure(ranked, self.judgments, metrics or self.metrics, self.min_grade)

    def grade(self, query: str, document: str) -> int:
        """Return the grade of a document, 0 if it is unjudged."""
        return self.judgments[query].get(document, 0)

    def relevant(self, query: str, document: str) -> bool:
        """Return whether a document is relevant."""
        return self.grade(query, document) >= self.min_grade

    def depths(self, depth: int | None = None) -> list[int]:
        """Return the depths of a curve: the usual ones, and the deepest that there is."""
        longest = max(map(len, self.candidates.values()), default=0)
        deepest = longest if depth is None else min(depth, longest)
        return [step for step in _DEPTHS if step < deepest] + [deepest] * (deepest > 0)


@dataclass(frozen=True)
class _Pairs:
    """All scored pairs of a query and a candidate, one after the other."""

    scores: Floats
    relevant: NDArray[np.bool_]
    query: NDArray[np.int64]
    queries: int


def score_curves(
    judged: Judged, scores: Mapping[str, CandidateScores], depth: int | None
) -> ScoreCurves:
    """
    Return what a system's scores say.

    Args:
        judged: The candidates with judgments.
        scores: The scores of the candidates.
        depth: How many candidates the system reranks. None for all.
    """
    pairs = _pairs(judged, scores, depth)
    thresholds = _thresholds(pairs)
    return ScoreCurves(
        _depth_curve(judged, scores, depth),
        _min_score_curve(pairs, thresholds),
        _histogram(pairs),
        _reliability(pairs),
        _nothing_relevant(pairs, thresholds),
    )


def top_n_curve(
    judged: Judged,
    ranked: Mapping[str, Sequence[str]],
    count_tokens: Callable[[str], int] | None = None,
) -> TopNCurve:
    """
    Return the quality by how many documents are handed to the LLM.

    Args:
        judged: The judgments.
        ranked: The document ids of each query, as a system ranks them.
        count_tokens: Returns the tokens of a document by its id. None if no tokenizer is known.
    """
    longest = max(map(len, ranked.values()), default=0)
    steps = list(range(1, min(_TOP_N, longest) + 1))
    names = ("recall", "hit", "P")
    metrics = [Metric(name, step) for name in names for step in steps]
    values = judged.measure(ranked, metrics) if steps else {}
    means = {name: [float(values[f"{name}@{step}"].mean()) for step in steps] for name in names}
    tokens = None
    if count_tokens is not None:
        totals = np.zeros(len(steps))
        for ids in ranked.values():
            counts = [count_tokens(name) for name in ids[: len(steps)]]
            counts += [0] * (len(steps) - len(counts))
            totals += np.cumsum(counts)
        tokens = [float(total) for total in totals / max(1, len(ranked))]
    return TopNCurve(steps, means["recall"], means["hit"], means["P"], tokens)


def headroom(judged: Judged, depths: Iterable[int] = ()) -> Headroom:
    """
    Return what any reranker could gain: recall and perfect order by depth.

    Args:
        judged: The candidates with judgments.
        depths: Depths to include beside the usual ones.
    """
    usual = judged.depths()
    depths = sorted({*usual, *(depth for depth in depths if usual and depth < usual[-1])})
    metrics = [Metric(name, step) for name in ("recall", "hit") for step in depths]
    values = judged.measure(judged.candidates, metrics) if depths else {}
    perfect: dict[str, list[float]] = {str(metric): [] for metric in judged.metrics}
    for step in depths:
        ideal = {
            query: sorted(ids[:step], key=lambda name, query=query: -judged.grade(query, name))  # type: ignore[misc]
            + list(ids[step:])
            for query, ids in judged.candidates.items()
        }
        for name, row in judged.measure(ideal).items():
            perfect[name].append(float(row.mean()))
    recall, hit = (
        [float(values[f"{name}@{step}"].mean()) for step in depths] for name in ("recall", "hit")
    )
    return Headroom(depths, recall, hit, perfect)


def _depth_curve(
    judged: Judged, scores: Mapping[str, CandidateScores], depth: int | None
) -> DepthCurve:
    depths = judged.depths(depth)
    means: dict[str, list[float]] = {str(metric): [] for metric in judged.metrics}
    for step in depths:
        for name, row in judged.measure(rankings(judged.candidates, scores, step)).items():
            means[name].append(float(row.mean()))
    return DepthCurve(depths, means)


def _pairs(judged: Judged, scores: Mapping[str, CandidateScores], depth: int | None) -> _Pairs:
    values: list[Floats] = []
    relevant: list[bool] = []
    lengths = []
    for query, ids in judged.scored.items():
        row = np.frombuffer(scores[query].values, dtype=np.float64)[:depth]
        values.append(row)
        relevant += [judged.relevant(query, name) for name in ids[: len(row)]]
        lengths.append(len(row))
    return _Pairs(
        np.concatenate([np.empty(0), *values]),
        np.array(relevant, dtype=np.bool_),
        np.repeat(np.arange(len(lengths)), lengths),
        len(lengths),
    )


def _thresholds(pairs: _Pairs) -> Floats:
    """
    Return the thresholds of the curves, ascending.

    They are 0.00, 0.01, ..., 1.00, and the quantiles of the scores between which a threshold
    decides: those of relevant candidates, and those of the best irrelevant one of each query. A
    model whose scores are close to 0 and 1 needs the latter.
    """
    steps = np.linspace(0, 1, _STEPS + 1)
    deciding = (pairs.scores[pairs.relevant], _best(pairs, ~pairs.relevant))
    quantiles = [
        np.quantile(scores, steps, method="inverted_cdf") for scores in deciding if len(scores)
    ]
    # Rounded down, so that a threshold keeps the document whose score it is.
    rounded = np.floor(np.concatenate(quantiles or [np.empty(0)]) * _DIGITS) / _DIGITS
    return np.unique(np.concatenate([np.round(steps, 2), rounded]))


def _min_score_curve(pairs: _Pairs, thresholds: Floats) -> MinScoreCurve:
    kept = _at_least(pairs.scores, thresholds)
    right = _at_least(pairs.scores[pairs.relevant], thresholds)
    relevant = max(1, int(pairs.relevant.sum()))
    return MinScoreCurve(
        thresholds.tolist(),
        [float(r / k) if k else None for r, k in zip(right, kept, strict=True)],
        [float(r / relevant) for r in right],
        [float(k / max(1, pairs.queries)) for k in kept],
    )


def _histogram(pairs: _Pairs) -> ScoreHistogram:
    edges = _edges(_HISTOGRAM_BINS)
    relevant, _ = np.histogram(pairs.scores[pairs.relevant], edges)
    irrelevant, _ = np.histogram(pairs.scores[~pairs.relevant], edges)
    return ScoreHistogram(edges, relevant.tolist(), irrelevant.tolist())


def _reliability(pairs: _Pairs) -> Reliability:
    edges = _edges(_RELIABILITY_BINS)
    count, _ = np.histogram(pairs.scores, edges)
    score, _ = np.histogram(pairs.scores, edges, weights=pairs.scores)
    relevant, _ = np.histogram(pairs.scores[pairs.relevant], edges)
    gap = np.abs(score - relevant).sum() / max(1, len(pairs.scores))
    return Reliability(
        edges,
        count.tolist(),
        [float(s / n) if n else None for s, n in zip(score, count, strict=True)],
        [float(r / n) if n else None for r, n in zip(relevant, count, strict=True)],
        float(gap),
    )


def _nothing_relevant(pairs: _Pairs, thresholds: Floats) -> NothingRelevant:
    wrong, right = (_best(pairs, mask) for mask in (~pairs.relevant, pairs.relevant))
    accepted, answered = _at_least(wrong, thresholds), _at_least(right, thresholds)
    return NothingRelevant(
        thresholds.tolist(),
        [float(count / max(1, len(wrong))) for count in accepted],
        [float(count / max(1, len(right))) for count in answered],
        len(wrong),
    )


def _best(pairs: _Pairs, mask: NDArray[np.bool_]) -> Floats:
    """Return the best score among the chosen pairs of each query that has such a pair."""
    best = np.full(pairs.queries, -1.0)
    np.maximum.at(best, pairs.query[mask], pairs.scores[mask])
    return best[best >= 0]


def _at_least(scores: Floats, thresholds: Floats) -> list[int]:
    """Return how many scores reach each threshold."""
    ordered = np.sort(scores)
    return [int(n) for n in len(ordered) - np.searchsorted(ordered, thresholds, side="left")]


def _edges(bins: int) -> list[float]:
    return [step / bins for step in range(bins + 1)]
