"""Probabilities and log-odds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.model.probability import log_odds_distance, logit, sigmoid

probabilities = st.floats(1e-9, 1 - 1e-9)


@given(probabilities)
def test_sigmoid_undoes_logit(p: float) -> None:
    assert sigmoid(logit(p)) == pytest.approx(p, rel=1e-6)


@given(st.floats(-20, 20))
def test_logit_undoes_sigmoid(x: float) -> None:
    assert logit(sigmoid(x)) == pytest.approx(x, abs=1e-5)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_sigmoid_and_logit_are_bounded(x: float) -> None:
    assert 0 <= sigmoid(x) <= 1
    assert abs(logit(x)) < 28
    assert math.isclose(sigmoid(x) + sigmoid(-x), 1)


def test_log_odds_are_compared_up_to_a_bound() -> None:
    assert log_odds_distance(1.5, -2.0) == 3.5
    assert log_odds_distance(9.0, 27.6) == 0.0
    assert log_odds_distance(-27.6, -7.0) == 1.0
