"""The command `convert`: what it makes of a comparison."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from qwen3_reranker import convert
from qwen3_reranker.convert import Verification

from support.command_line import Call

PAIRS = (("a query", "a document"), ("a query", "another document"))


@pytest.mark.parametrize(
    ("converted", "code"),
    [
        ((0.899, 0.1), 0),
        ((0.8, 0.1), 1),
        ((0.899, math.nan), 1),
        ((math.nan, 0.1), 1),
        ((math.nan, 0.5), 1),
    ],
)
def test_a_difference_or_a_score_that_is_no_number_is_a_finding(
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    converted: tuple[float, ...],
    code: int,
) -> None:
    comparison = Verification(PAIRS, (0.9, 0.1), converted, 0.002)
    monkeypatch.setattr(convert, "verify", lambda *_: comparison)
    monkeypatch.setattr("qwen3_reranker.convert.verification.check_libraries", lambda: None)
    ended, shown, _ = call("convert", "demo", str(tmp_path / "converted"), "--verify")
    assert ended == code
    largest = shown.splitlines()[-1]
    assert ("largest difference: nan" in largest) == any(map(math.isnan, converted))
