"""The probe's outcome on the pictures that known servers and known mistakes give."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.model.probability import logit
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.problems import PROBLEMS

PAIRS = sum(len(texts) for _, texts in PROBES)
# The demo model with its template, as vLLM and SGLang answer.
RIGHT = ((0.99798, 0.02302, 0.01979), (0.85003, 0.03671, 0.17763))


def read(*rows: tuple[float, ...], tokens: int | None = None, logits: bool = False) -> Outcome:
    return Outcome.read(rows, tokens, logits=logits)


def test_the_probes_are_those_that_the_outcome_reads() -> None:
    assert [len(texts) for _, texts in PROBES] == [3, 3]
    assert all(query and all(texts) for query, texts in PROBES)


def test_the_right_picture_passes() -> None:
    outcome = read(*RIGHT, tokens=552)
    assert outcome.passed and not outcome.logits
    assert outcome.margin == pytest.approx(logit(0.85003) - logit(0.17763))
    assert str(outcome) == "0.998 against 0.023 and 0.0198; 0.85 against 0.0367 and 0.178"


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        pytest.param(((0.5,) * 3,) * 2, "all-half", id="0.5"),
        pytest.param(((0.731,) * 3,) * 2, "identical-scores", id="equal"),
        pytest.param(((1.0,) * 3,) * 2, "identical-scores", id="one label"),
        pytest.param(((3e-20, 1e-20, 2e-20), (1e-19, 9e-20, 2e-23)), "next-to-zero", id="1e-20"),
        # Answered by llama.cpp (xllamacpp 2026.10.11549) with a GGUF file that had no head.
        pytest.param(
            ((1.95e-4, 3.8e-4, 3.71e-4), (1.54e-4, 1.69e-4, 2.38e-4)), "next-to-zero", id="1e-4"
        ),
        pytest.param(((0.0,) * 3,) * 2, "next-to-zero", id="zero"),
        pytest.param(
            ((0.01, 0.97, 0.98), (0.15, 0.96, 0.83)), "labels-inverted", id="labels swapped"
        ),
        pytest.param(
            ((0.99995, 0.99993, 0.99991), (0.99992, 0.99993, 0.99991)),
            "no-separation",
            id="no template",
        ),
        pytest.param(
            ((0.1295, 0.1196, 0.1227), (0.1312, 0.1201, 0.1199)), "no-separation", id="doubled"
        ),
        pytest.param(((0.99, 0.01, 0.02), (0.5, 0.6, 0.1)), "no-separation", id="one of two"),
        # A two-label checkpoint at SGLang's /v1/rerank: an embedding's component.
        pytest.param(((-3.42, -3.21, -2.07), (-3.1, -3.0, -2.9)), "no-separation", id="embedding"),
    ],
)
def test_the_cause_of_wrong_scores_is_recognized(
    rows: tuple[tuple[float, ...], ...], code: str
) -> None:
    outcome = read(*rows)
    assert not outcome.passed
    assert outcome.problem == code


def test_log_odds_are_recognized_and_read_as_probabilities() -> None:
    odds = tuple(tuple(logit(score) for score in row) for row in RIGHT)
    outcome = read(*odds)
    assert outcome.logits and outcome.passed
    assert [list(row) for row in outcome.scores] == [pytest.approx(list(row)) for row in RIGHT]
    assert read(*RIGHT, logits=True).logits
    # One number is enough to tell.
    assert read((0.5, 0.1, 0.1), (1.5, 0.1, 0.1)).logits
    assert read((0.5, 0.1, 0.1), (0.5, 0.1, -0.1)).logits


@pytest.mark.parametrize("off", [1.0000001192092896, -1.19e-7])
def test_a_last_digit_outside_the_range_makes_no_log_odds(off: float) -> None:
    row = (off, 0.001, 0.002) if off > 0 else (0.98, off, 0.002)
    outcome = read(row, RIGHT[1])
    assert not outcome.logits and outcome.passed


def test_squeezed_scores_pass_by_their_difference() -> None:
    assert read((0.72, 0.52, 0.51), (0.70, 0.51, 0.53)).passed is False
    assert read((0.80, 0.45, 0.40), (0.75, 0.40, 0.43)).passed
    assert read((1e-3, 1e-4, 1e-5), (2e-3, 1e-4, 1e-4)).passed


def test_the_tokens_say_whether_there_was_a_template() -> None:
    plain, written, twice = 22 * PAIRS, 92 * PAIRS, 162 * PAIRS
    assert [read(*RIGHT, tokens=n).templated for n in (None, plain, written, twice)] == [
        *(None, False, True, True)
    ]
    assert [read(*RIGHT, tokens=n).doubled for n in (None, plain, written, twice)] == [
        *(False, False, False, True)
    ]


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(finite, finite, finite), min_size=2, max_size=2), st.none() | st.integers()
)
def test_any_numbers_have_an_outcome(rows: list[tuple[float, ...]], tokens: int | None) -> None:
    outcome = Outcome.read(rows, tokens, logits=False)
    assert math.isfinite(outcome.margin)
    assert outcome.problem in PROBLEMS and str(outcome)
    assert all(-1e-6 <= score <= 1 + 1e-6 for row in outcome.scores for score in row)
    if outcome.passed:
        assert all(row[0] > max(row[1:]) for row in outcome.scores)
