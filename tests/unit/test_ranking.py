"""From scores to hits: order, ties, blanks, and what a scorer may not answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.errors import InputError, ScoreError
from qwen3_reranker.model.probability import logit, sigmoid
from qwen3_reranker.ranking import ScoringJob, rank, validate_query, validate_scores
from qwen3_reranker.scorer import Scores

texts = st.lists(st.sampled_from(["a", "b", "c", "d e", "", " ", "\n\t"]) | st.text(max_size=3))
scores = st.floats(0, 1)


@given(texts, st.data())
def test_ranking(documents: list[str], data: st.DataObject) -> None:
    job = ScoringJob(documents)
    values = [data.draw(scores) for _ in job.texts]
    flags = [data.draw(st.booleans()) for _ in job.texts]
    by_text = dict(zip(job.texts, zip(values, flags, strict=True), strict=True))
    everything = rank(job, Scores(values, flags))

    assert sorted(hit.index for hit in everything) == list(range(len(documents)))
    for hit in everything:
        assert hit.text == documents[hit.index]
        blank = not hit.text.strip()
        assert (hit.score, hit.truncated) == ((0.0, False) if blank else by_text[hit.text])
    keys = [(not hit.text.strip(), -hit.score, hit.index) for hit in everything]
    assert keys == sorted(keys)

    assert job.scatter(values) == [hit.score for hit in sorted(everything, key=lambda h: h.index)]


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=8, unique=True))
def test_log_odds_order_the_scores_that_are_rounded_to_the_same_number(logits: list[float]) -> None:
    job = ScoringJob([f"document {n}" for n in range(len(logits))])
    values = [sigmoid(value) for value in logits]
    hits = rank(job, Scores(values, [False] * len(logits), logits))
    assert [hit.logit for hit in hits] == sorted(logits, reverse=True)
    assert [hit.score for hit in hits] == sorted(values, reverse=True)


def test_log_odds_are_derived_from_probabilities_where_a_scorer_gives_none() -> None:
    scores = Scores([1.0, 0.25], [False, False])
    hits = rank(ScoringJob(["a", "b", " "]), scores)
    assert [hit.logit for hit in hits] == [logit(1.0), logit(0.25), -math.inf]


@pytest.mark.parametrize("logits", [[1.0], [1.0, math.nan], [], [1.0, None]])
def test_log_odds_that_do_not_fit_the_scores_raise(logits: list[Any]) -> None:
    scores = Scores([0.5, 0.5], [False, False], logits)
    with pytest.raises(ScoreError, match=r"log-odds of 2 documents|in Scores\.logits"):
        validate_scores(scores, 2)


@given(texts)
def test_each_different_text_is_scored_once_and_blank_ones_never(documents: list[str]) -> None:
    job = ScoringJob(documents)
    assert len(set(job.texts)) == len(job.texts)
    assert set(job.texts) == {text for text in documents if text.strip()}
    assert job.documents == documents and job.documents is not documents


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, 1.5, None, "0.5", [0.5], True])
def test_what_is_no_probability_raises(wrong: object) -> None:
    with pytest.raises(ScoreError, match="score 1 of 2"):
        validate_scores(Scores([0.5, wrong], [False] * 2), 2)  # type: ignore[list-item]


def test_numbers_and_flags_of_other_types_become_floats_and_bools() -> None:
    values: list[Any] = [1, np.float32(0.5)]
    logits: list[Any] = [27, np.float32(0)]
    truncated: list[Any] = [1, np.False_]
    scores = validate_scores(Scores(values, truncated, logits), 2)
    assert (scores.values, scores.logits) == ([1.0, 0.5], [27.0, 0.0])
    assert {type(number) for number in (*scores.values, *scores.log_odds)} == {float}
    assert scores.truncated == [True, False]
    assert {type(flag) for flag in scores.truncated} == {bool}


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5]])
def test_a_wrong_number_of_scores_raises(values: list[float]) -> None:
    with pytest.raises(ScoreError, match=f"scores of 2 documents, got {len(values)}"):
        validate_scores(Scores(values, [False] * 2), 2)


@pytest.mark.parametrize("query", ["", " \n", None, 3, ["q"]])
def test_the_query_is_checked(query: object) -> None:
    with pytest.raises(InputError, match="query"):
        validate_query(query)


def test_documents_are_checked() -> None:
    with pytest.raises(InputError, match="document 1 is a NoneType"):
        ScoringJob(["a", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="not one str"):
        ScoringJob("abc")


@pytest.mark.parametrize("documents", ["one", b"one", {"one": 1}, {"one", "two"}, 5, None, 0.5])
def test_what_is_not_a_list_of_documents_is_refused(documents: object) -> None:
    with pytest.raises(InputError, match="documents must be a list of str, not one"):
        ScoringJob(documents)  # type: ignore[arg-type]
