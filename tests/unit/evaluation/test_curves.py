"""Curves, calibration and headroom: against a plain computation of the same."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker.evaluation import Metric
from qwen3_reranker.evaluation.curves import Judged, headroom, score_curves, top_n_curve
from qwen3_reranker.evaluation.scoring import CandidateScores

Case = tuple[Judged, dict[str, CandidateScores]]
SCORES = st.sampled_from([0.0, 0.05, 0.29, 0.3, 0.5, 0.57, 0.8, 0.85, 0.99, 1.0]) | st.floats(0, 1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    candidates, judgments, scores = {}, {}, {}
    for number in range(draw(st.integers(1, 4))):
        query = f"q{number}"
        values = draw(st.lists(SCORES, max_size=8))
        ids = [f"d{index}" for index in range(len(values))]
        grades = draw(st.dictionaries(st.sampled_from([*ids, "missing"]), st.integers(0, 2)))
        candidates[query], judgments[query] = ids, grades | {"elsewhere": 1}
        row = array("d", values)
        scores[query] = CandidateScores(row, row, array("b"))
    metrics = [Metric("nDCG", 10), Metric("hit", 1)]
    return Judged(candidates, judgments, metrics, 1), scores


def rows(case: Case, depth: int | None) -> list[tuple[str, float, bool]]:
    judged, scores = case
    return [
        (query, score, judged.relevant(query, name))
        for query, ids in judged.candidates.items()
        for name, score in list(zip(ids, scores[query].values, strict=True))[:depth]
    ]


DEPTH = st.none() | st.integers(1, 9)


@settings(deadline=None, max_examples=50)
@given(cases(), DEPTH)
def test_what_a_threshold_keeps(case: Case, depth: int | None) -> None:
    curve = score_curves(*case, depth).min_score
    pairs = rows(case, depth)
    assert curve.min_score[0] == 0.0 and curve.min_score[-1] == 1.0
    for n, threshold in enumerate(curve.min_score):
        kept = [right for _, score, right in pairs if score >= threshold]
        relevant = sum(right for *_, right in pairs)
        assert curve.precision[n] == (pytest.approx(sum(kept) / len(kept)) if kept else None)
        assert curve.recall[n] == pytest.approx(sum(kept) / max(1, relevant))
        assert curve.documents[n] == pytest.approx(len(kept) / len(case[0].candidates))


@settings(deadline=None, max_examples=50)
@given(cases(), DEPTH)
def test_queries_without_a_relevant_candidate(case: Case, depth: int | None) -> None:
    curve = score_curves(*case, depth).nothing_relevant
    pairs = rows(case, depth)
    wrong = {q: max(s for p, s, r in pairs if p == q and not r) for q, _, r in pairs if not r}
    right = {q: max(s for p, s, r in pairs if p == q and r) for q, _, r in pairs if r}
    assert curve.queries == len(wrong)
    for n, threshold in enumerate(curve.min_score):
        accepted, answered = (
            sum(best >= threshold for best in found.values()) / max(1, len(found))
            for found in (wrong, right)
        )
        assert curve.false_accept[n] == pytest.approx(accepted)
        assert curve.answered[n] == pytest.approx(answered)


@settings(deadline=None, max_examples=50)
@given(cases(), DEPTH)
def test_histogram_and_reliability_count_every_pair(case: Case, depth: int | None) -> None:
    curves = score_curves(*case, depth)
    pairs = rows(case, depth)
    histogram, reliability = curves.histogram, curves.reliability
    assert sum(histogram.relevant) == sum(right for *_, right in pairs)
    assert sum(histogram.irrelevant) == sum(not right for *_, right in pairs)
    assert len(histogram.edges) == len(histogram.relevant) + 1 == 21
    assert sum(reliability.count) == len(pairs)
    assert 0 <= reliability.ece <= 1
    for count, score, relevant in zip(
        reliability.count, reliability.score, reliability.relevant, strict=True
    ):
        assert (score is None) == (relevant is None) == (count == 0)


def test_the_calibration_error_by_hand() -> None:
    values = array("d", [0.95, 0.95, 0.95, 0.95, 0.25, 0.25])
    judged = Judged({"q": list("abcdef")}, {"q": {"a": 1, "b": 1, "c": 1}}, [Metric("hit", 1)], 1)
    found = score_curves(
        judged, {"q": CandidateScores(values, values, array("b"))}, None
    ).reliability
    # Four documents of 0.95, of which 3 are relevant; two of 0.25, of which none is.
    assert found.ece == pytest.approx((4 * 0.20 + 2 * 0.25) / 6)
    assert found.count == [0, 0, 2, 0, 0, 0, 0, 0, 0, 4]
    assert found.relevant[9] == 0.75 and found.score[9] == pytest.approx(0.95)


@settings(deadline=None, max_examples=30)
@given(cases())
def test_headroom_is_above_what_any_order_reaches(case: Case) -> None:
    judged, scores = case
    found = headroom(judged)
    curve = score_curves(judged, scores, None).depth
    assert found.depth == curve.depth
    for name, best in found.perfect.items():
        assert all(p >= m - 1e-9 for p, m in zip(best, curve.metrics[name], strict=True))
        assert best == sorted(best)
    assert found.recall == sorted(found.recall) and found.hit == sorted(found.hit)


def test_headroom_by_hand() -> None:
    judged = Judged(
        {"q": ["a", "b", "c"], "r": ["x"]},
        {"q": {"b": 1, "c": 2, "z": 1}, "r": {"y": 1}},
        [Metric("MRR", 10)],
        1,
    )
    found = headroom(judged)
    assert found.depth == [1, 2, 3]
    assert found.recall == pytest.approx([0, 1 / 6, 1 / 3]) and found.hit == [0, 0.5, 0.5]
    assert found.perfect["MRR@10"] == pytest.approx([0.25, 0.5, 0.5])


def test_depths_of_a_curve() -> None:
    judged = Judged({"q": [str(n) for n in range(60)]}, {"q": {}}, [Metric("hit", 1)], 1)
    assert judged.depths() == [1, 2, 3, 5, 10, 20, 30, 50, 60]
    assert judged.depths(20) == [1, 2, 3, 5, 10, 20] and judged.depths(200) == judged.depths()
    assert Judged({"q": []}, {"q": {}}, [Metric("hit", 1)], 1).depths() == []


def test_nothing_found_at_all() -> None:
    empty = array("d")
    judged = Judged({"q": []}, {"q": {"a": 1}}, [Metric("hit", 1)], 1)
    curves = score_curves(judged, {"q": CandidateScores(empty, empty, array("b"))}, None)
    assert curves.depth.depth == [] and curves.reliability.ece == 0
    assert set(curves.min_score.precision) == {None}
    assert headroom(judged).depth == [] and top_n_curve(judged, {"q": []}).top_n == []


def test_tokens_add_up() -> None:
    judged = Judged({"q": list("abc"), "r": ["a"]}, {"q": {"b": 1}, "r": {}}, [Metric("hit", 1)], 1)
    lengths = {"a": 5, "b": 7, "c": 100}
    curve = top_n_curve(judged, judged.candidates, lengths.__getitem__)
    assert curve.tokens == [5.0, 8.5, 58.5]
    assert curve.hit == [0.0, 0.5, 0.5] and np.allclose(curve.recall, [0, 0.5, 0.5])


@settings(deadline=None, max_examples=50)
@given(cases())
def test_thresholds_are_hundredths_and_the_scores_that_decide(case: Case) -> None:
    thresholds = score_curves(*case, None).min_score.min_score
    assert thresholds == sorted(set(thresholds)) and thresholds[0] == 0 and thresholds[-1] == 1
    assert {round(step / 100, 2) for step in range(101)} <= set(thresholds)
    # Few scores are all quantiles of themselves. A threshold is at most a millionth lower.
    for _, score, relevant in rows(case, None):
        if relevant:
            assert any(score - 1e-6 <= threshold <= score for threshold in thresholds)
    assert all(f"{float(f'{threshold:g}')}" == f"{threshold}" for threshold in thresholds)
