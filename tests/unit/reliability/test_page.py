"""docs/explanation/reliability.md shows the last soak test."""

from __future__ import annotations

import pytest

from benchmarks import record
from reliability.page import PAGE, updated

RUN = {
    "about": {"command": "python -m x", "date": "2026-11-27", "machine": "2 cores"},
    "callers": 2,
    "faults": [
        {"fault": "the engine is killed", "seconds": 0, "recovered": 2.54},
        {"fault": "the engine is killed", "seconds": 0, "recovered": 1.0},
        {"fault": "the gateway hangs", "seconds": 0, "recovered": None},
    ],
    "forks": {"right": 3, "wrong": []},
    "wire_faults": {"reset": 1_000, "slow": 1},
    "memory_mib": 600,
    "memory_mib_per_minute": 0.5,
}
PART = {
    "calls": 1_200,
    "answered": 1_000,
    "canceled": 190,
    "errors": {"ServerError": 10},
    "wrong": 0,
    "lost": 0,
    "doubled": 0,
    "longest_stall": 1.25,
    "seconds": 600,
}


def test_figures_replace_those_of_an_earlier_run() -> None:
    run = RUN | dict.fromkeys(("engine", "cached", "servers", "gateway", "all"), PART)
    page = "before\n<!-- figures of make soak -->\nold\n<!-- end -->\nafter\n"
    new = updated(page, run)
    assert new.startswith("before\n") and new.endswith("<!-- end -->\nafter\n")
    assert "old" not in new and updated(new, run) == new
    assert "| All | 1,200 | 1,000 | 190 | 10 | 0 | 0 | 0 | 1.2 |" in new
    assert "| The engine is killed | 2 | 2.5 |" in new
    assert "| The gateway hangs | 1 | none |" in new
    assert "Errors: 10 ServerError." in new and "Spoiled answers: 1,001." in new


@pytest.mark.skipif(not record.exists("soak"), reason="there is no run")
def test_the_page_shows_the_last_run() -> None:
    page = PAGE.read_text("utf-8")
    assert page == updated(page, record.load("soak"))
    assert "<!-- figures of make soak -->\n\n`python" in page
