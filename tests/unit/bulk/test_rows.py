"""Rows: the name of the result, and the reasons why a row cannot be scored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qwen3_reranker import InputError
from qwen3_reranker.bulk import BatchReranker, rerank_files

from support.bulk import CrcScorer, expected, read_bad, read_rows, relevance, write_lines

SURROGATE = (
    "contains the lone surrogate U+D83D at character 0, so it is not Unicode text: remove it, or "
    "replace it as text.encode(errors='replace').decode() does"
)
# As a retriever leaves it.
RETRIEVED = {"query": "q", "text": "t", "score": 12.3}


@pytest.mark.parametrize("name", ["relevance", 'a "quoted" name', "\u2028"])
def test_the_result_can_have_another_name(tmp_path: Path, name: str) -> None:
    rows = [RETRIEVED, {"query": "q", "documents": ["a", "b"], "hits": 3}]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    rerank_files(source, target, scorer=CrcScorer(), result=name)
    assert read_rows(target) == [
        {**rows[0], name: relevance("q", "t")},
        {**rows[1], name: expected("q", ["a", "b"])},
    ]


def test_the_result_of_parquet_can_have_another_name(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([RETRIEVED]), tmp_path / "in.parquet")
    rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer(), result="r")
    assert pq.read_table(tmp_path / "out" / "rows").to_pylist() == [
        {**RETRIEVED, "r": relevance("q", "t")}
    ]


def test_a_batch_with_two_columns_of_a_name_that_is_read_is_refused() -> None:
    table = pa.table([pa.array(["q"]), pa.array(["t"]), pa.array(["u"])], ["query", "text", "text"])
    reranker = BatchReranker(scorer=CrcScorer())
    with pytest.raises(InputError, match="there are 2 columns 'text': rename all but one"):
        asyncio.run(reranker(table))
    reranker.close()


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_a_first_row_with_a_score_is_refused_before_anything_is_written(
    tmp_path: Path, before: bytes
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [RETRIEVED] * 3)
    source.write_bytes(before + source.read_bytes())
    message = r"in\.jsonl: in the first row, there is a 'score' already, .* give result= another"
    with pytest.raises(InputError, match=message):
        rerank_files(source, tmp_path / "out", scorer=CrcScorer())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "first", [b"{broken", b"[" * 100_000, b'"query text score"', b"7", b'{"score": 1}', b"\xff"]
)
def test_a_first_row_that_is_bad_for_another_reason_is_set_aside(
    tmp_path: Path, first: bytes
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [first, {"query": "q", "text": "t"}])
    rerank_files(source, tmp_path / "out", scorer=CrcScorer())
    assert [row["number"] for row in read_bad(tmp_path / "out")] == [1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "q", "text": None}, "'text' is null, not a string"),
        ({"query": None, "text": "t"}, "'query' is null, not a string"),
        ({"query": ["q"], "text": "t"}, "'query' is a list, not a string"),
        ({"query": "q", "documents": "t"}, "'documents' is a string, not a list of strings"),
        ({"query": "q", "documents": ["t", 1.5]}, "document 1 is a number, not a string"),
        ({"query": "q", "documents": [None]}, "document 0 is null, not a string"),
        ({"query": "\ud83d", "text": "t"}, f"'query' {SURROGATE}"),
        ({"query": "q", "text": "\ud83d"}, f"'text' {SURROGATE}"),
        ({"query": "q", "documents": ["t", "\ud83d"]}, f"document 1 {SURROGATE}"),
        ([True], "it is a list, not an object"),
        (True, "it is a Boolean, not an object"),
    ],
)
def test_reasons_name_the_value_and_call_types_what_json_calls_them(
    tmp_path: Path, row: Any, reason: str
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [row])
    rerank_files(source, tmp_path / "out", scorer=CrcScorer())
    assert [bad["reason"] for bad in read_bad(tmp_path / "out")] == [reason]
