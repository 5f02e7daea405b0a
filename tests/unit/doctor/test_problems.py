"""The table of problems, and what the documentation and the checks make of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qwen3_reranker.doctor import examination
from qwen3_reranker.problems import PROBLEMS

from support import docs_generated

SOURCES = Path(examination.__file__).parent.glob("*.py")


def test_the_documentation_has_the_table() -> None:
    """`PYTHONPATH=tests python -m support.docs_generated` writes it."""
    assert docs_generated.PROBLEMS_PAGE.read_text("utf-8") == docs_generated.problems_page()


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_is_told_in_sentences(code: str) -> None:
    known = PROBLEMS[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+|slow|unreachable", code)
    assert "|" not in known.meaning + known.advice  # it would end a cell of the table
    assert known.meaning[0].islower() or known.meaning.startswith(("P(", "SGLang", "vLLM"))
    assert not known.meaning.endswith(".")
    assert known.advice.endswith((".", "'", "?")) or "pip install" in known.advice


def test_every_problem_is_found_by_a_check() -> None:
    sources = "".join(path.read_text("utf-8") for path in SOURCES if path.stem != "problems")
    named = set(re.findall(r'"([a-z-]+)"', sources))
    assert set(PROBLEMS) <= named
