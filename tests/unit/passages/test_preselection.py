"""Preselection prefers the passages that share the query's rarer words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.passages.preselection import preselect

WORDS = st.lists(st.sampled_from(["river", "hill", "sea", "the", "东", "京"]), max_size=8)
PASSAGES = st.lists(WORDS.map(" ".join), min_size=1, max_size=12)


@given(query=WORDS.map(" ".join), passages=PASSAGES, count=st.integers(1, 14))
def test_it_chooses_as_many_as_asked_for_in_order(
    query: str, passages: list[str], count: int
) -> None:
    chosen = preselect(query, passages, count)
    assert chosen == sorted({*chosen})
    assert len(chosen) == min(count, len(passages))
    assert {*chosen} <= {*preselect(query, passages, count + 1)}  # fewer are some of the same


def test_a_rare_word_counts_more_than_common_ones() -> None:
    passages = ["the river and the sea"] * 5 + ["a zebra"] + ["the river and the sea"] * 5
    assert preselect("the river, the sea and the zebra", passages, 1) == [5]


def test_words_are_compared_without_case_and_width() -> None:
    passages = ["nothing", "nothing", "Ｚｅｂｒａ"]
    assert preselect("ZEBRA?", passages, 1) == [2]


def test_chinese_characters_are_words() -> None:
    passages = ["天气很好", "他喜欢苹果", "河流从山中开始"]
    assert preselect("河流从哪里开始？", passages, 1) == [2]


def test_without_a_common_word_the_first_passages_are_chosen() -> None:
    assert preselect("zebra", ["one", "two", "three"], 2) == [0, 1]
    assert preselect("?", ["!", "...", "-"], 1) == [0]


def test_ties_go_to_the_earlier_passages() -> None:
    passages = ["nothing", "a river", "a river", "a river"]
    assert preselect("river", passages, 2) == [1, 2]
