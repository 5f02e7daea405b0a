"""Recommendations: what they say of data that is made so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_reranker import DEFAULT_INSTRUCTION, Scores
from qwen3_reranker.evaluation import Advice, Dataset, Report, System, evaluate

from support.evaluation import (
    RankScorer,
    WordScorer,
    one_right,
    reranker,
    small,
    synthetic,
)


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
    assert found["top_n"].text.startswith("In the retriever's order, hand 1 document ")
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
    # No smaller threshold that keeps more documents is precise enough.
    for p, documents in zip(curve.precision[:chosen], curve.documents, strict=False):
        assert p is None or p < precision or documents == curve.documents[chosen]
    assert f"set min_score={value:g}" in advice(report)["min_score"].text


def test_a_precision_that_no_threshold_reaches() -> None:
    documents = {"a": "something", "b": "copy it", "c": "please copy it"}
    dataset = Dataset({"q": "copy it"}, documents, {"q": {"c": 1}}, {"q": ["a", "b", "c"]})
    found = advice(evaluate(dataset, reranker()))["min_score"]
    assert found.value is None
    assert found.text == (
        "With the first 3 candidates reranked, no min_score makes 80% of the documents relevant: "
        "the most is 50%, with min_score=0.01."
    )


def test_the_better_instruction() -> None:
    one = reranker()
    systems = [System(reranker=one), System(reranker=one, instruction="invert")]
    found = advice(evaluate(synthetic(60, 40), systems))["instruction"]
    assert found.value == DEFAULT_INSTRUCTION
    assert found.text.startswith("Use the default instruction: nDCG@10 is ")
    assert 'with the instruction "invert" (p < 0.001)' in found.text
    own = System(reranker=reranker(instruction="invert"))
    systems = [own, replace(own, instruction="read")]
    assert advice(evaluate(synthetic(60, 40), systems))["instruction"].value == "read"


def test_no_instruction_is_recommended_where_the_difference_may_be_chance() -> None:
    one = reranker()
    equal = [System(reranker=one), System(reranker=one, instruction="another")]
    found = advice(evaluate(synthetic(60, 40), equal))["instruction"]
    assert "do not show that the instruction matters" in found.text and "p = 1.000" in found.text
    assert found.value is None
    dataset = one_right(dict.fromkeys("abc", 10))
    ranks: dict[str | None, dict[str, int]] = {
        None: {"a": 1, "b": 3, "c": 3},
        "other": {"a": 1, "b": 1, "c": 1},
    }
    one = reranker(RankScorer(ranks))
    systems = [System(reranker=one), System(reranker=one, instruction="other", name="other")]
    report = evaluate(dataset, systems)
    assert report.best.name == "other"
    found = advice(report)["instruction"]
    assert found.text.startswith("These queries do not show that the instruction matters: ")
    assert found.value is None


def test_the_first_of_equals_is_the_best_although_its_mean_has_smaller_last_digits() -> None:
    dataset = one_right(dict.fromkeys("abc", 10))
    ranks: dict[str | None, dict[str, int]] = {
        instruction: dict(zip(dataset.queries, values, strict=True))
        for instruction, values in ((None, (1, 3, 7)), ("other", (3, 7, 1)))
    }
    one = reranker(RankScorer(ranks))
    systems = [System(reranker=one, name="a"), System(reranker=one, instruction="other", name="b")]
    report = evaluate(dataset, systems, metrics=["MRR@10"])
    assert 0 < report["b"].metrics["MRR@10"] - report["a"].metrics["MRR@10"] < 1e-9
    assert report.best.name == "a"
    assert "MRR@10 is 0.492 with a and " in advice(report)["rerank"].text


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


def test_the_advice_on_settings_is_conditional_where_nothing_was_shown() -> None:
    found = advice(evaluate(small(), System(reranker=reranker())))
    assert found["rerank"].value is None
    assert found["depth"].text.startswith("If you rerank nevertheless, rerank the first 2 ")
    assert found["top_n"].text.startswith("With the first 2 candidates reranked, hand 1 document ")
    assert found["min_score"].text.startswith("With the first 2 candidates reranked, set ")


@given(st.lists(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 4, 8]), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None)
@example([0] * 80 + [4])
def test_a_recommended_depth_beats_the_retriever(positions: list[int]) -> None:
    documents = {"right": "copy it", **{f"wrong{n}": "wait" for n in range(9)}}
    wrong = list(documents)[1:]
    candidates = {
        f"q{n}": [*wrong[:position], "right", *wrong[position:]]
        for n, position in enumerate(positions)
    }
    queries = dict.fromkeys(candidates, "copy it")
    dataset = Dataset(queries, documents, dict.fromkeys(queries, {"right": 1}), candidates)
    report = evaluate(dataset, System(reranker=reranker(), name="x"))
    found, curves = advice(report), report["x"].curves
    assert curves is not None and ("depth" in found) == any(positions)
    if "depth" in found:
        depth = found["depth"].value
        assert isinstance(depth, int)
        mean = curves.depth.metrics["nDCG@10"][curves.depth.depth.index(depth)]
        assert mean > report["retriever"].metrics["nDCG@10"] + 1e-9


def test_top_n_and_threshold_are_those_of_the_recommended_depth() -> None:
    """Deeper candidates share words with the query, so they would raise the threshold."""
    documents = {"right": "copy a whole folder"}
    documents |= {f"other{n}": "wait" for n in range(4)}
    documents |= {f"near{n}": "copy nothing" for n in range(15)}
    names = list(documents)
    candidates = {f"q{n}": [*names[1:5], "right", *names[5:]] for n in range(20)}
    queries = dict.fromkeys(candidates, "copy folder")
    dataset = Dataset(queries, documents, dict.fromkeys(queries, {"right": 1}), candidates)
    one = reranker()
    found = advice(evaluate(dataset, System(reranker=one), token_counter=len))
    assert found["depth"].value == 5
    alone = advice(evaluate(dataset, System(reranker=one, depth=5), token_counter=len))
    for topic in ("top_n", "min_score"):
        assert found[topic] == alone[topic]
        assert found[topic].text.startswith("With the first 5 candidates reranked, ")
    threshold = found["min_score"].value
    assert isinstance(threshold, float) and threshold < 0.5


def ranked(ranks: Sequence[tuple[int, int]], depth: int | None = None) -> Report:
    """
    Return a report of queries with one relevant document among 25 candidates.

    Args:
        ranks: Its rank by the retriever and its rank by the scores, from 1, for each query.
        depth: How many candidates are reranked. None reranks all.
    """
    numbered = {f"q{number}": pair for number, pair in enumerate(ranks)}
    dataset = one_right({query: found for query, (found, _) in numbered.items()}, 24)
    scorer = RankScorer({None: {query: scored for query, (_, scored) in numbered.items()}})
    return evaluate(dataset, System(reranker=reranker(scorer), depth=depth), metrics=["MRR@10"])


HALF_IS_NOT_FOUND = [(5, 1), (12, 12)] * 15
"""Reranking 5 candidates is as good as reranking more, but the LLM needs 12 documents."""


def test_the_depth_has_the_documents_for_the_llm() -> None:
    found = advice(ranked(HALF_IS_NOT_FOUND))
    assert (found["depth"].value, found["top_n"].value) == (20, 12)
    assert found["depth"].text == (
        "Rerank the first 20 candidates: MRR@10 is 0.500 with 20, 0.500 with 10, 0.500 with 25. "
        "Fewer are enough for MRR@10, but too few to hand to the LLM."
    )
    assert found["top_n"].text == (
        "With the first 20 candidates reranked, hand 12 documents to the LLM: 100% of the queries "
        "have a relevant one among them."
    )


def test_the_llm_gets_no_more_documents_than_the_deepest_system_reranks() -> None:
    found = advice(ranked(HALF_IS_NOT_FOUND, depth=7))
    assert (found["depth"].value, found["top_n"].value) == (7, 1)
    assert found["top_n"].text == (
        "With the first 7 candidates reranked, hand 1 document to the LLM: 50% of the queries have "
        "a relevant one among them."
    )


@given(
    st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=40),
    st.sampled_from([1, 3, 7, 12, None]),
)
@settings(max_examples=30, deadline=None)
@example([(5, 1)] * 20 + [(7, 7)] * 4 + [(12, 12)] * 16, 7)
def test_no_more_documents_are_recommended_for_the_llm_than_are_reranked(
    ranks: list[tuple[int, int]], depth: int | None
) -> None:
    found = advice(ranked(ranks, depth))
    if "depth" in found and found["top_n"].value is not None:
        reranked, top_n = found["depth"].value, found["top_n"].value
        assert isinstance(reranked, int) and isinstance(top_n, int) and top_n <= reranked


class Saturated(WordScorer):
    """Gives all scores above 0.99, as a model does that is sure of everything."""

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        scores = await super().score(query, texts, instruction)
        return Scores([0.9995 + 0.0004 * value for value in scores.values], scores.truncated)


@pytest.mark.parametrize("precision", [0.9, 1.0])
def test_a_threshold_separates_scores_near_1(precision: float) -> None:
    report = evaluate(
        synthetic(60, 40), System(reranker=reranker(Saturated()), name="x"), precision=precision
    )
    found = advice(report)["min_score"]
    assert isinstance(found.value, float) and 0.9995 < found.value < 1
    assert f"set min_score={found.value} " in found.text
