"""Metrics: as trec_eval computes them, and as one does by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.evaluation import DEFAULT_METRICS, Metric
from qwen3_reranker.evaluation.metrics import measure, parse_metrics

IDS = list("abcdefgh")
JUDGED = st.dictionaries(st.sampled_from(IDS), st.integers(-1, 3), min_size=1)
RANKED = st.lists(st.sampled_from(IDS), unique=True)
CUTOFF = st.integers(1, 10)


def one(name: str, ranking: list[str], grades: dict[str, int], min_grade: int = 1) -> float:
    values = measure({"q": ranking}, {"q": grades}, parse_metrics([name]), min_grade)
    return float(values[name][0])


@pytest.mark.parametrize(("name", "value"), [
    # b is relevant with grade 2, d with 1, and e was not found; x is unjudged.
    ("nDCG@3", (2 / math.log2(3)) / (2 + 1 / math.log2(3) + 1 / math.log2(4))),
    ("nDCG@4", (2 / math.log2(3) + 1 / math.log2(5)) / (2 + 1 / math.log2(3) + 1 / math.log2(4))),
    ("MRR@1", 0.0),
    ("MRR@10", 1 / 2),
    ("hit@1", 0.0),
    ("hit@2", 1.0),
    ("recall@3", 1 / 3),
    ("recall@10", 2 / 3),
    ("P@2", 1 / 2),
    ("P@10", 2 / 10),
])  # fmt: skip
def test_by_hand(name: str, value: float) -> None:
    grades = {"b": 2, "d": 1, "e": 1, "a": 0}
    assert one(name, ["a", "b", "x", "d"], grades) == pytest.approx(value)


@given(RANKED, JUDGED, CUTOFF)
def test_as_trec_eval(ranking: list[str], grades: dict[str, int], cutoff: int) -> None:
    names = [f"{name}@{cutoff}" for name in ("nDCG", "MRR", "hit", "recall", "P")]
    ours = measure({"q": ranking}, {"q": grades}, parse_metrics(names))
    # trec_eval knows no reciprocal rank with a cutoff, so it gets the ranking's beginning.
    theirs: dict[str, float] = {}
    for asked, count in (("ndcg_cut,success,recall,P", None), ("recip_rank", cutoff)):
        run = {"q": {name: -rank for rank, name in enumerate(ranking[:count])}}
        known = {f"{name}.{cutoff}" if count is None else name for name in asked.split(",")}
        qrels = {"q": {name: max(grade, 0) for name, grade in grades.items()}}
        theirs |= pytrec_eval.RelevanceEvaluator(qrels, known).evaluate(run).get("q", {})
    for name, key in zip(names, ("ndcg_cut", "recip_rank", "success", "recall", "P"), strict=True):
        wanted = theirs.get(key if key == "recip_rank" else f"{key}_{cutoff}", 0.0)
        assert ours[name][0] == pytest.approx(wanted, abs=1e-9), name


@given(RANKED, JUDGED, st.integers(1, 3))
def test_a_higher_grade_may_be_needed(
    ranking: list[str], grades: dict[str, int], min_grade: int
) -> None:
    binary = {name: int(grade >= min_grade) for name, grade in grades.items()}
    for name in ("MRR@5", "hit@2", "recall@3", "P@3"):
        assert one(name, ranking, grades, min_grade) == one(name, ranking, binary)
    assert one("nDCG@5", ranking, grades, min_grade) == one("nDCG@5", ranking, grades)


def test_an_id_never_decides_a_rank() -> None:
    for ranking in (["a", "b"], ["b", "a"]):
        assert one("MRR@5", ranking, {"a": 1}) == 1 / (1 + ranking.index("a"))


def test_a_query_without_candidates_counts_as_zero() -> None:
    found = {"q1": ["a"], "q2": [], "q3": ["x"]}
    judgments = {name: {"a": 1} for name in found}
    for name, row in measure(found, judgments, parse_metrics(DEFAULT_METRICS)).items():
        assert row.tolist() == [0.2 if name == "P@5" else 1.0, 0.0, 0.0], name
    nothing = measure({"q": []}, judgments | {"q": {"a": 1}}, [Metric("nDCG", 10)])
    assert nothing["nDCG@10"].tolist() == [0.0]


def test_values_are_in_the_order_of_the_rankings() -> None:
    found = {f"q{number}": ["x"] * 0 + [f"d{number % 2}"] for number in range(20)}
    judgments = {name: {"d1": 1} for name in found}
    values = measure(found, judgments, [Metric("hit", 1)])["hit@1"]
    assert values.tolist() == [number % 2 for number in range(20)]
    assert values.dtype == np.float64


@pytest.mark.parametrize("name", ["ndcg@10", "nDCG", "nDCG@0", "nDCG@x", "map@10", "", " P@5", 7])
def test_a_metric_that_is_not_known(name: Any) -> None:
    with pytest.raises(InputError, match=r"not known: give one of nDCG@K, MRR@K, hit@K, recall@K"):
        parse_metrics([name])


def test_metrics_come_once_and_never_none() -> None:
    assert parse_metrics(["P@5", "P@5"]) == [Metric("P", 5)] == parse_metrics("P@5")
    with pytest.raises(InputError, match="metrics is empty"):
        parse_metrics([])
