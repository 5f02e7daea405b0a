"""Files of documents: how they are read, and that the best of all parts are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError, Prompt, Reranker, Scorer, Scores
from qwen3_reranker import files as module
from qwen3_reranker.files import read_lines, rerank_lines


class LengthScorer(Scorer):
    """The longer the better, so that a line's score is known."""

    model = "length"

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        return Scores([min(1.0, len(text) / 100) for text in texts], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


@given(st.lists(st.integers(1, 40), max_size=30), st.one_of(st.none(), st.integers(1, 12)))
def test_the_best_of_all_parts_are_kept(lengths: list[int], top_n: int | None) -> None:
    texts = ["x" * length for length in lengths]
    lines = list(read_lines(texts, "txt"))
    with Reranker(scorer=LengthScorer()) as reranker, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PART", 4)
        counts: list[int] = []
        kept = rerank_lines(reranker, "q", lines, top_n=top_n, on_progress=counts.append)
    expected = sorted(range(len(texts)), key=lambda i: (-lengths[i], i))[:top_n]
    assert [line.number - 1 for line in kept] == expected
    assert sum(counts) == len(texts)
    assert all(line.score == pytest.approx(len(line.text) / 100) for line in kept)


def test_what_a_line_may_be() -> None:
    rows = ['{"text": "a", "id": 7}', "", '"b"', '{"content": "c"}']
    assert [(line.number, line.text) for line in read_lines(rows, "jsonl")] == [
        (1, "a"),
        (3, "b"),
        (4, "c"),
    ]
    [line] = read_lines([json.dumps({"text": "no", "title": "yes"})], "jsonl", "title")
    assert (line.text, line.record) == ("yes", {"text": "no", "title": "yes"})
    assert [line.text for line in read_lines(["one\n", "  \n", " two "], "txt")] == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "line 2 is not JSON"),
        ("[1]", "line 2 is neither an object nor a string"),
        ('{"name": "x"}', "line 2 has no text under one of text, .* its keys are .'name'."),
        ('{"text": 3}', "line 2 has no text"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_lines(['"fine"', line], "jsonl"))
    with pytest.raises(InputError, match="no text under 'body'"):
        list(read_lines(['{"text": "a"}'], "jsonl", "body"))


def test_a_blank_text_comes_last() -> None:
    rows = ['{"text": " "}', '{"text": "x"}']
    with Reranker(scorer=LengthScorer()) as reranker:
        kept = rerank_lines(reranker, "q", read_lines(rows, "jsonl"), top_n=None)
        assert [line.number for line in kept] == [2, 1]
        with pytest.raises(InputError, match="top_n=0"):
            rerank_lines(reranker, "q", [], top_n=0)
