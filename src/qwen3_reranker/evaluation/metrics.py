"""Measure rankings with ir-measures: nDCG, MRR, hit rate, recall and precision at a cutoff."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
from numpy.typing import NDArray

from qwen3_reranker.errors import InputError

__all__ = ["DEFAULT_METRICS", "Floats", "Metric", "measure", "parse_metrics"]

Floats = NDArray[np.float64]

DEFAULT_METRICS = ("nDCG@10", "MRR@10", "hit@1", "hit@5", "recall@10", "P@5")
"""The metrics of a report. The first one decides about recommendations."""

# The names of reports, and those of ir-measures.
_NAMES = {"nDCG": "nDCG", "MRR": "RR", "hit": "Success", "recall": "R", "P": "P"}
_PATTERN = re.compile(rf"({'|'.join(_NAMES)})@([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A metric with its cutoff.

    - nDCG@k: the normalized discounted cumulative gain of the first k documents, with the grades
      as gains.
    - MRR@k: the reciprocal rank of the first relevant document, 0 if none is among the first k.
    - hit@k: 1 if a relevant document is among the first k, else 0.
    - recall@k: the share of all relevant documents that are among the first k.
    - P@k: the share of relevant documents among the first k.

    Attributes:
        name: "nDCG", "MRR", "hit", "recall" or "P".
        cutoff: How many documents count, 1 or more.
    """

    name: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.name}@{self.cutoff}"

    def measure(self, min_grade: int) -> Any:
        """Return the measure of ir-measures, in which `min_grade` and more is relevant."""
        made = getattr(ir_measures, _NAMES[self.name])
        # The gains of nDCG are the grades.
        made = made if self.name == "nDCG" else made(rel=min_grade)
        return made @ self.cutoff


def parse_metrics(names: Iterable[str]) -> list[Metric]:
    """
    Return the metrics with these names, without duplicates.

    Raises:
        InputError: There are none, or a name is not known.
    """
    if isinstance(names, str):
        names = [names]
    found = []
    for name in dict.fromkeys(names):
        match = _PATTERN.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            known = ", ".join(f"{known}@K" for known in _NAMES)
            raise InputError(f"metric {name!r} is not known: give one of {known}")
        found.append(Metric(match[1], int(match[2])))
    if not found:
        raise InputError("metrics is empty: give at least one, such as 'nDCG@10'")
    return found


def measure(
    rankings: Mapping[str, Sequence[str]],
    judgments: Mapping[str, Mapping[str, int]],
    metrics: Sequence[Metric],
    min_grade: int = 1,
) -> dict[str, Floats]:
    """
    Measure the rankings of queries, as trec_eval does.

    A document without a grade, or with one below 0, counts as grade 0.

    Args:
        rankings: The document ids of each query, best first.
        judgments: The grade of each judged document, by query id and document id.
        metrics: What to measure.
        min_grade: The lowest grade that counts as relevant, 1 or more. nDCG uses the grades.

    Returns:
        For each metric, by its name, one value per query, in the order of `rankings`.
    """
    qrels = {
        query: {document: max(grade, 0) for document, grade in judgments.get(query, {}).items()}
        for query in rankings
    }
    longest = max(metric.cutoff for metric in metrics)
    # Strictly descending, so that a document's id never decides about its rank.
    run = {
        query: {document: float(-rank) for rank, document in enumerate(ids[:longest])}
        for query, ids in rankings.items()
        if ids
    }
    by_measure = {metric.measure(min_grade): str(metric) for metric in metrics}
    values = {str(metric): dict.fromkeys(rankings, 0.0) for metric in metrics}
    if run:
        for found in ir_measures.iter_calc(list(by_measure), qrels, run):
            values[by_measure[found.measure]][found.query_id] = float(found.value)
    return {name: np.array(list(row.values())) for name, row in values.items()}
