"""The table of problems, and what the documentation and the checks make of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qwen3_reranker.doctor import (
    examination,
)
from qwen3_reranker.doctor.problems import PROBLEMS, markdown_table

ROOT = Path(__file__).parents[3]
BEGIN, END = "<!-- problems: begin -->\n", "\n<!-- problems: end -->"
SOURCES = Path(examination.__file__).parent.glob("*.py")


def test_the_documentation_has_the_table() -> None:
    pages = [page for page in ROOT.glob("docs/**/*.md") if BEGIN in page.read_text("utf-8")]
    assert len(pages) == 1, "the page of the doctor holds the table of problems, and no other"
    table = pages[0].read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert table == markdown_table(), (
        f"replace the table in {pages[0].relative_to(ROOT)} by that of "
        '`python -c "from qwen3_reranker.doctor.problems import markdown_table as t; print(t())"`'
    )


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
