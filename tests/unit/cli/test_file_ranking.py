"""Files of documents are ranked in parts, and the best of all parts are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineError, InputError, Prompt, Reranker, Scorer, Scores
from qwen3_reranker.cli import file_ranking as module
from qwen3_reranker.cli.file_ranking import rerank_lines
from qwen3_reranker.document_files import parse_lines


class LengthScorer(Scorer):
    """The longer the better, so that a line's score is known."""

    model = "length"

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if any("!" in text for text in texts):
            raise EngineError("no")
        return Scores([min(1.0, len(text) / 100) for text in texts], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


@given(st.lists(st.integers(1, 40), max_size=30), st.one_of(st.none(), st.integers(1, 12)))
def test_the_best_of_all_parts_are_kept(lengths: list[int], top_n: int | None) -> None:
    texts = ["x" * length for length in lengths]
    lines = list(parse_lines(texts, "txt"))
    with Reranker(scorer=LengthScorer()) as reranker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 4)
        counts: list[int] = []
        kept = rerank_lines(reranker, "q", lines, top_n=top_n, on_progress=counts.append)
    expected = sorted(range(len(texts)), key=lambda i: (-lengths[i], i))[:top_n]
    assert [line.number - 1 for line in kept] == expected
    assert sum(counts) == len(texts)
    assert all(line.score == pytest.approx(len(line.text) / 100) for line in kept)


@pytest.mark.filterwarnings("ignore:kept the order")
@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=30),
    st.one_of(st.none(), st.integers(1, 12)),
)
def test_parts_that_fail_come_after_those_with_scores(
    drawn: list[tuple[int, bool]], top_n: int | None
) -> None:
    texts = ["x" * length + "!" * fails for length, fails in drawn]
    failed = {
        i
        for i in range(len(texts))
        if any("!" in text for text in texts[i // 4 * 4 : i // 4 * 4 + 4])
    }
    with (
        Reranker(scorer=LengthScorer(), on_error="keep_order") as reranker,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(module, "_CHUNK", 4)
        kept = rerank_lines(reranker, "q", parse_lines(texts, "txt"), top_n=top_n)
    expected = sorted(
        range(len(texts)), key=lambda i: (i in failed, 0 if i in failed else -len(texts[i]), i)
    )[:top_n]
    assert [line.number - 1 for line in kept] == expected
    for line in kept:
        assert line.error == ("no" if line.number - 1 in failed else None)
        assert math.isnan(line.score) is (line.error is not None)


def test_log_odds_order_scores_that_are_equal_across_parts() -> None:
    class SureScorer(LengthScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            return Scores([1.0] * len(texts), [False] * len(texts), [float(len(t)) for t in texts])

    lines = parse_lines(["xx", "x", "xxxx", "xxx"], "txt")
    with Reranker(scorer=SureScorer()) as reranker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 1)
        kept = rerank_lines(reranker, "q", lines, top_n=3)
    assert [(line.number, line.logit) for line in kept] == [(3, 4.0), (4, 3.0), (1, 2.0)]


def test_a_blank_text_comes_last() -> None:
    rows = ['{"text": " "}', '{"text": "x"}']
    with Reranker(scorer=LengthScorer()) as reranker:
        kept = rerank_lines(reranker, "q", parse_lines(rows, "jsonl"), top_n=None)
        assert [line.number for line in kept] == [2, 1]
        with pytest.raises(InputError, match="top_n=0"):
            rerank_lines(reranker, "q", [], top_n=0)


def test_duplicates_in_other_parts_of_the_file_are_dropped() -> None:
    """All documents are ranked before, so that no part decides about those of another one."""
    rows = ["one two three", "a longer one", "One, two, three;;", "four five", "One two three."]
    with Reranker(scorer=LengthScorer()) as reranker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 2)
        lines = list(parse_lines(rows, "txt"))
        kept = rerank_lines(reranker, "q", lines, top_n=2, drop_duplicates=True)
        assert [line.number for line in kept] == [3, 2]


def test_a_budget_holds_for_the_whole_file() -> None:
    rows = [json.dumps({"text": "word " * n, "n": n}) for n in range(1, 6)]
    options: dict[str, Any] = {"token_counter": lambda text: len(text.split()), "token_budget": 7}
    with Reranker(scorer=LengthScorer()) as reranker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 2)
        lines = list(parse_lines(rows, "jsonl"))
        assert [line.number for line in rerank_lines(reranker, "q", lines, **options)] == [5]
        whole, cut = rerank_lines(reranker, "q", lines, cut_last=True, **options)
        assert (whole.number, whole.cut) == (5, False)
        assert (cut.number, cut.text, cut.cut) == (4, "word word", True)
        assert cut.record == {"text": "word " * 4, "n": 4}


def test_a_budget_needs_a_tokenizer() -> None:
    with (
        Reranker(scorer=LengthScorer()) as reranker,
        pytest.raises(InputError, match="has no tokenizer"),
    ):
        rerank_lines(reranker, "q", [], token_budget=7)
