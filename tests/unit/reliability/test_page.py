"""docs/explanation/reliability.md shows the last soak test."""

from __future__ import annotations

import pytest

from benchmarks import record
from reliability.page import PAGE, updated

RUN = {
    "about": {"command": "python -m x", "date": "2026-11-27", "machine": "2 cores"},
    "callers": 2,
    "faults": [
        {"fault": "the engine is killed", "seconds": 0, "met": True, "recovered": 2.5},
        {"fault": "the engine is killed", "seconds": 0, "met": True, "recovered": 1.0},
        {"fault": "the gateway hangs", "seconds": 0, "met": True, "recovered": None},
        {"fault": "the clock is set", "seconds": 0, "met": False, "recovered": 1.0},
    ],
    "forks": {"right": 3, "wrong": []},
    "wire_faults": {"reset": 1_000, "slow": 1},
    "memory": {"mib": 600, "grown_mib": 1.5, "blocks_per_minute": -1_234.5},
}
PART = {
    "calls": 1_200,
    "answered": 1_000,
    "canceled": 190,
    "errors": {"ServerError": 10},
    "unexpected": 0,
    "wrong": 0,
    "lost": 0,
    "doubled": 0,
    "late": 3,
    "longest_seconds": 20.04,
    "longest_stall": 1.25,
    "seconds": 600,
}


def test_figures_replace_those_of_an_earlier_run() -> None:
    run = RUN | dict.fromkeys(("engine", "cached", "servers", "gateway", "all"), PART)
    page = "before\n<!-- figures of make soak -->\nold\n<!-- end -->\nafter\n"
    new = updated(page, run)
    assert new.startswith("before\n") and new.endswith("<!-- end -->\nafter\n")
    assert "old" not in new and updated(new, run) == new
    assert "| All | 1,200 | 1,000 | 190 | 10 | 0 | 0 | 0 | 0 | 3 | 20.0 | 1.2 |" in new
    assert "| The engine is killed | 2 | 2.5 |" in new
    assert "clock" not in new  # it had no effect
    assert "| The gateway hangs | 1 | none |" in new
    assert "Errors: 10 ServerError." in new and "Spoiled answers: 1,001." in new


@pytest.mark.skipif(not record.exists("soak"), reason="there is no run")
def test_the_page_shows_the_last_run() -> None:
    page = PAGE.read_text("utf-8")
    assert page == updated(page, record.load("soak"))
    assert "<!-- figures of make soak -->\n\n`python" in page
