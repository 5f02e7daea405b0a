"""A short version of `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3_reranker import Reranker

from reliability import faulty_proxy
from reliability.backends import opened
from reliability.cases import make_cases
from reliability.faults import all_faults
from reliability.soak import Soak, problems

# Left out are those that last until something has timed out or the gateway has started again.
BRIEF = {
    *(f"{fault} answers" for fault in faulty_proxy.FAULTS),
    *("a server is killed", "the engine is killed", "the cache's disk is full"),
    *("the clock is set a day ahead", "the process forks"),
}


@pytest.mark.filterwarnings("ignore::qwen3_reranker.RerankerWarning")
def test_no_answer_is_wrong_lost_or_doubled(recipe: Reranker, tmp_path: Path) -> None:
    with opened(tmp_path, light=True) as backends:
        cases = make_cases(recipe)
        soak = Soak(backends, cases, callers=16, unit=0.3)
        faults = [f for f in all_faults(backends, cases, soak.forks) if f.name in BRIEF]
        soak.run(0, faults)
        figures = soak.figures()
    assert problems(figures) == []
    assert len(soak.events) == len(faults) >= len(BRIEF)
    assert soak.forks.right > 0
    assert {*figures["wire_faults"]} == {*faulty_proxy.FAULTS}
    for name in backends.rerankers:
        assert figures[name]["answered"] > 0
    assert figures["all"]["canceled"] > 0
