"""Recommendations: what they say of data that is made so."""

from __future__ import annotations

import pytest

from qwen3_reranker.evaluation import Advice, Dataset, Report, System, evaluate

from support.evaluation import reranker, small, synthetic


def advice(report: Report) -> dict[str, Advice]:
    return {one.topic: one for one in report.recommendation}


def test_reranking_that_helps() -> None:
    report = evaluate(
        synthetic(60, 40), System(reranker=reranker(), name="words"), token_counter=len
    )
    found = advice(report)
    assert list(found) == ["rerank", "headroom", "depth", "top_n", "min_score"]
    assert found["rerank"].value is True
    before, after = report["retriever"].metrics["nDCG@10"], report["words"].metrics["nDCG@10"]
    assert (
        f"nDCG@10 is {after:.3f} with words and {before:.3f} in the retriever's order"
        in found["rerank"].text
    )
    assert "p < 0.001" in found["rerank"].text
    # The answer is anywhere among the 40, so all are worth reranking; then it is on top.
    assert found["depth"].value == 40 and found["top_n"].value == 1
    assert "tokens on average" in found["top_n"].text


def test_reranking_that_does_not() -> None:
    one = reranker(instruction="invert")
    dataset = synthetic(60, 40)
    assert dataset.candidates is not None
    perfect = {
        query: [*dataset.judgments[query], *(n for n in ids if n not in dataset.judgments[query])]
        for query, ids in dataset.candidates.items()
    }
    best_first = Dataset(dataset.queries, dataset.documents, dataset.judgments, perfect)
    found = advice(evaluate(best_first, System(reranker=one, name="inverted")))
    assert found["rerank"].value is False
    # What to hand to the LLM is then said of the retriever's order, where the answer is on top.
    assert list(found) == ["rerank", "headroom", "top_n"] and found["top_n"].value == 1
    assert found["rerank"].text.startswith("Do not rerank with these systems: ")


def test_the_headroom_is_that_of_the_best_systems_depth() -> None:
    one = reranker()
    report = evaluate(synthetic(60, 40), [System(reranker=one, depth=7), System(reranker=one)])
    assert advice(report)["headroom"].value == 1.0
    report = evaluate(synthetic(60, 40), System(reranker=one, depth=7))
    found, position = report.headroom, report.headroom.depth.index(7)
    said = advice(report)["headroom"]
    assert said.value == found.perfect["nDCG@10"][position] < 1
    assert f"{said.value:.3f} with the first 7 candidates" in said.text
    assert f"for {found.hit[position]:.0%} of the queries" in said.text


def test_two_queries_show_nothing() -> None:
    found = advice(evaluate(small(), System(reranker=reranker())))
    assert found["rerank"].value is None
    assert found["rerank"].text.startswith("These queries do not show whether reranking helps: ")


@pytest.mark.parametrize("precision", [0.3, 0.9, 1.0])
def test_the_threshold_reaches_the_precision_that_is_wanted(precision: float) -> None:
    report = evaluate(synthetic(60, 40), System(reranker=reranker(), name="x"), precision=precision)
    value = advice(report)["min_score"].value
    curves = report["x"].curves
    assert curves is not None and isinstance(value, float)
    curve = curves.min_score
    chosen = curve.min_score.index(value)
    reached = curve.precision[chosen]
    assert reached is not None and reached >= precision
    assert all(p is None or p < precision for p in curve.precision[:chosen])
    assert f"set min_score={value:g}" in advice(report)["min_score"].text


def test_a_precision_that_no_threshold_reaches() -> None:
    documents = {"a": "something", "b": "copy it", "c": "please copy it"}
    dataset = Dataset({"q": "copy it"}, documents, {"q": {"c": 1}}, {"q": ["a", "b", "c"]})
    found = advice(evaluate(dataset, reranker()))["min_score"]
    assert found.value is None
    assert found.text.startswith(
        "No min_score makes 80% of the documents relevant: the most is 50%"
    )


def test_the_better_instruction() -> None:
    one = reranker()
    systems = [System(reranker=one), System(reranker=one, instruction="invert")]
    found = advice(evaluate(synthetic(60, 40), systems))["instruction"]
    assert found.value is None and found.text.startswith("Use the default instruction: nDCG@10 is ")
    assert 'with the instruction "invert" (p < 0.001)' in found.text
    equal = [System(reranker=one), System(reranker=one, instruction="another")]
    found = advice(evaluate(synthetic(60, 40), equal))["instruction"]
    assert "do not show that the instruction matters" in found.text and "p = 1.000" in found.text


def test_only_systems_that_share_a_reranker_are_compared_by_instruction() -> None:
    one, other = reranker(), reranker()
    assert "instruction" not in advice(
        evaluate(
            synthetic(20, 10), [System(reranker=one, name="a"), System(reranker=other, name="b")]
        )
    )
    found = advice(
        evaluate(
            synthetic(60, 40),
            [
                System(reranker=one, name="a"),
                System(reranker=other, name="b"),
                System(reranker=other, instruction="invert", name="c"),
                System(reranker=one, instruction="x", depth=3, name="d"),
            ],
        )
    )
    assert "instruction" not in found


def test_nothing_is_recommended_where_nothing_was_found() -> None:
    dataset = Dataset({"q": "text"}, {"d": "text"}, {"q": {"d": 1}}, {"q": []})
    found = advice(evaluate(dataset, reranker()))
    assert {one.value for one in found.values()} == {None}
