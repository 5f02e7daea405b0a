"""Turn the scores of a system into its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from qwen3_reranker.evaluation.curves import Judged, score_curves, top_n_curve
from qwen3_reranker.evaluation.dataset import Dataset
from qwen3_reranker.evaluation.metrics import Floats
from qwen3_reranker.evaluation.results import Change, Changes, SystemResult, TopDocument
from qwen3_reranker.evaluation.scoring import CandidateScores, rankings
from qwen3_reranker.evaluation.statistics import TINY, bootstrap_intervals, randomization_tests
from qwen3_reranker.evaluation.systems import RETRIEVER, System
from qwen3_reranker.selection import TokenCounter
from qwen3_reranker.token_counting import count_tokens

__all__ = ["ResultBuilder"]

_WORST = 10
_SHOWN = 300  # characters of a document that a report shows


class ResultBuilder:
    """
    Measure systems on the same queries.

    Args:
        dataset: Has the texts.
        judged: The candidates with judgments.
        token_counter: Returns the tokens of a text. None leaves tokens out.
    """

    def __init__(
        self, dataset: Dataset, judged: Judged, token_counter: TokenCounter | None
    ) -> None:
        self._dataset, self._judged = dataset, judged
        self._metric = judged.metrics[0]
        self._before = judged.measure(judged.candidates)
        self._rerankers: dict[tuple[Any, ...], int] = {}
        self._count_tokens: Callable[[str], int] | None = None
        if token_counter is not None:
            # A document may be a candidate of many queries, and of several systems.
            self._count_tokens = cache(
                lambda document: count_tokens(token_counter, dataset.documents[document])
            )

    def retriever(self) -> SystemResult:
        """Return the result of the retriever's order."""
        return self._result(System(), RETRIEVER, self._judged.candidates, self._before, None)

    def system(self, system: System, scores: Mapping[str, CandidateScores]) -> SystemResult:
        """
        Return the result of a system.

        Args:
            system: The system, with its name.
            scores: The scores of each query's candidates, at least to the system's depth.
        """
        # Systems that differ only in depth share their scores.
        scores = {query: row.first(system.depth) for query, row in scores.items()}
        found = rankings(self._judged.candidates, scores)
        assert system.name is not None
        return self._result(system, system.name, found, self._judged.measure(found), scores)

    def _result(
        self,
        system: System,
        name: str,
        found: Mapping[str, Sequence[str]],
        values: Mapping[str, Floats],
        scores: Mapping[str, CandidateScores] | None,
    ) -> SystemResult:
        """Return the result of an order. `scores` is None for that of the retriever."""
        is_system = scores is not None
        gains = {metric: row - self._before[metric] for metric, row in values.items()}
        compared = gains if is_system else {}
        depth, number = system.depth, None
        if is_system:
            number = self._rerankers.setdefault(system.built_from, len(self._rerankers))
        return SystemResult(
            name,
            system.model_name if is_system else None,
            system.urls,
            system.used_instruction,
            system.used_max_length,
            depth,
            number,
            metrics={metric: float(row.mean()) for metric, row in values.items()},
            intervals=_intervals(values),
            differences={metric: float(row.mean()) for metric, row in compared.items()},
            difference_intervals=_intervals(compared),
            p_values=self._p_values(compared),
            judged=self._judged_share(found),
            truncated=_truncated_share(scores or {}),
            per_query={metric: row.tolist() for metric, row in values.items()},
            changes=None if scores is None else self._changes(found, values, scores),
            top_n=top_n_curve(self._judged, found, self._count_tokens),
            curves=None if scores is None else score_curves(self._judged, scores, depth),
        )

    def _p_values(self, compared: Mapping[str, Floats]) -> dict[str, float]:
        if not compared:
            return {}
        gains = np.column_stack(list(compared.values()))
        tests = randomization_tests(np.zeros_like(gains), gains)
        return dict(zip(compared, tests, strict=True))

    def _judged_share(self, found: Mapping[str, Sequence[str]]) -> float:
        """Return the share of judged documents among those that the first metric counts."""
        first = [
            document in self._judged.judgments[query]
            for query, ids in found.items()
            for document in ids[: self._metric.cutoff]
        ]
        return float(np.mean(first)) if first else 0.0

    def _changes(
        self,
        found: Mapping[str, Sequence[str]],
        values: Mapping[str, Floats],
        scores: Mapping[str, CandidateScores],
    ) -> Changes:
        before, after = self._before[str(self._metric)], values[str(self._metric)]
        gains = after - before
        helped, hurt = gains > TINY, gains < -TINY
        queries = list(found)
        worst = [int(n) for n in np.argsort(gains, kind="stable")[:_WORST] if hurt[n]]
        return Changes(
            int(helped.sum()),
            int((~helped & ~hurt).sum()),
            int(hurt.sum()),
            [
                Change(
                    queries[n],
                    self._dataset.queries[queries[n]],
                    float(before[n]),
                    float(after[n]),
                    self._top(queries[n], self._judged.candidates[queries[n]], None),
                    self._top(queries[n], found[queries[n]], scores[queries[n]]),
                )
                for n in worst
            ],
        )

    def _top(
        self, query: str, ids: Sequence[str], scores: CandidateScores | None
    ) -> TopDocument | None:
        if not ids:
            return None
        text = " ".join(self._dataset.documents[ids[0]].split())
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        grade = self._judged.judgments[query].get(ids[0])
        score = None if scores is None else max(scores.values, default=None)
        return TopDocument(ids[0], shown, grade, score)


def _intervals(values: Mapping[str, Floats]) -> dict[str, list[float]]:
    if not values:
        return {}
    bounds = bootstrap_intervals(np.column_stack(list(values.values())))
    return {metric: list(pair) for metric, pair in zip(values, bounds, strict=True)}


def _truncated_share(scores: Mapping[str, CandidateScores]) -> float:
    count = sum(len(row.values) for row in scores.values())
    return sum(sum(row.truncated) for row in scores.values()) / max(1, count)
