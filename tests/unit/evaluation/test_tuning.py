"""Tuning: an instruction is chosen on one half of the queries, and measured on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from qwen3_reranker import DEFAULT_INSTRUCTION, InputError, Scores
from qwen3_reranker.evaluation import Dataset, System, tune

from support.evaluation import (
    RankScorer,
    WordScorer,
    one_right,
    reranker,
    small,
    synthetic,
)


class Instructed(WordScorer):
    """Reads the words only if it is told to."""

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        found = await super().score(query, texts, instruction)
        return found if instruction == "read" else Scores([0.5] * len(texts), found.truncated)


def test_the_best_instruction_is_found_and_its_gain_measured_elsewhere() -> None:
    dataset, scorer = synthetic(60, 20), Instructed()
    found = tune(dataset, System(reranker=reranker(scorer)), ["look away", "read"], metric="MRR@10")
    assert found.instruction == "read" and found.metric == "MRR@10"
    first, second = found.chosen_on, found.reported_on
    assert {*first.queries} | {*second.queries} == {*dataset.queries}
    assert not {*first.queries} & {*second.queries}
    assert [system.name for system in first.systems] == [
        *("retriever", "default instruction", "instruction 1", "instruction 2")
    ]
    assert [s.name for s in second.systems] == [
        "retriever",
        "default instruction",
        "chosen instruction",
    ]
    default, chosen = second.systems[1].metrics["MRR@10"], second.systems[2].metrics["MRR@10"]
    assert found.gain == pytest.approx(chosen - default) and found.gain > 0.2
    assert found.p_value < 0.05
    # The instruction that was not chosen is never tried on the second half.
    texts = {dataset.queries[query] for query in second.queries}
    assert {i for query, _, i in scorer.asked if query in texts} == {None, "read"}
    table = found.table()
    assert (
        "MRR@10 on 30 queries" in table and 'The best is "read". On the other 30 queries' in table
    )
    table = replace(found, p_value=0.0001).table()
    assert table.endswith(f"({found.gain:+.3f}, p < 0.001).")


def test_the_default_instruction_wins_a_tie() -> None:
    found = tune(synthetic(20, 10), System(reranker=reranker()), ["other"])
    assert (found.instruction, found.gain, found.p_value) == (None, 0.0, 1.0)
    assert [s.name for s in found.reported_on.systems] == ["retriever", "default instruction"]
    assert "No instruction was better than the default one." in found.table()


def test_the_default_instruction_wins_where_means_differ_only_in_their_last_digits() -> None:
    dataset = one_right(dict.fromkeys("abcdef", 10))
    queries = dataset.halves()[0].judgments
    ranks: dict[str | None, dict[str, int]] = {
        instruction: dict.fromkeys(dataset.queries, 1) | dict(zip(queries, values, strict=True))
        for instruction, values in ((None, (1, 3, 7)), ("other", (3, 7, 1)))
    }
    scorer = RankScorer(ranks)
    found = tune(dataset, System(reranker=reranker(scorer)), ["other"], metric="MRR@10")
    default, other = (system.metrics["MRR@10"] for system in found.chosen_on.systems[1:])
    assert 0 < other - default < 1e-9
    assert found.instruction is None


def test_a_rerankers_own_instruction_takes_no_part() -> None:
    dataset, scorer = synthetic(60, 20), Instructed()
    one = reranker(scorer, instruction="read")
    found = tune(dataset, System(reranker=one), ["look away", DEFAULT_INSTRUCTION])
    assert {instruction for *_, instruction in scorer.asked} == {DEFAULT_INSTRUCTION, "look away"}
    assert found.instruction is None and found.gain == 0.0
    assert [s.instruction for s in found.chosen_on.systems[1:]] == [None, "look away"]
    found = tune(dataset, System(reranker=one), ["read"])
    assert found.instruction == "read" and found.gain > 0.2


def test_the_seed_decides_the_halves() -> None:
    halves = [
        tune(synthetic(20, 10), System(reranker=reranker()), ["x"], seed=seed).chosen_on.queries
        for seed in (0, 0, 1)
    ]
    assert halves[0] == halves[1] != halves[2]


def test_bm25_finds_candidates_once() -> None:
    made = synthetic(20, 10)
    without = Dataset(made.queries, made.documents, made.judgments)
    reports = [tune(without, System(reranker=reranker(), depth=depth), ["x"]) for depth in (2, 5)]
    assert reports[0].chosen_on["retriever"] == reports[1].chosen_on["retriever"]
    for report in (reports[0].chosen_on, reports[0].reported_on):
        assert report.dataset.first_stage == "BM25" and report.headroom.depth[-1] > 2


@pytest.mark.parametrize(("instructions", "message"), [
    ([], r"instructions=\[\]: give a list"),
    ([DEFAULT_INSTRUCTION], "other than the default instruction"),
    ("a sentence", "instructions='a sentence': give a list"),
    ([5], "instruction=5"),
])  # fmt: skip
def test_instructions_that_cannot_be_used(instructions: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tune(small(), System(reranker=reranker()), instructions)
