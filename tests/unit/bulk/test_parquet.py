"""Parquet files: types and columns are kept, and every row is read once."""

from __future__ import annotations

import datetime as dt
import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.bulk import files, rerank_files
from qwen3_reranker.bulk.parquet import Parquet
from qwen3_reranker.bulk.rows import Columns

from support.bulk import TOO_LONG, CrcScorer, expected, read_bad, relevance


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SMALLEST_PARTITION", 100)
    monkeypatch.setattr("qwen3_reranker.output_files.os.fsync", lambda _: None)


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    groups=st.integers(1, 5),
    bad=st.sets(st.integers(0, 26)),
)
def test_every_row_is_scored_once_or_named_with_a_reason(
    sizes: list[int], groups: int, bad: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        (source := Path(name, "in")).mkdir()
        first, wrong, right = 0, [], []
        for number, size in enumerate(sizes):
            places = range(first, first + size)
            queries = [None if n % 2 and n in bad else f"q{n}" for n in places]
            queries = [
                TOO_LONG if n in bad and q else q for n, q in zip(places, queries, strict=True)
            ]
            table = pa.table(
                {
                    "query": pa.array(queries, pa.string()),
                    "text": pa.array(["t"] * size, pa.string()),
                }
            )
            pq.write_table(table, source / f"{number}.parquet", row_group_size=groups)
            right += [q for n, q in zip(places, queries, strict=True) if n not in bad]
            wrong += [(f"{number}.parquet", n - first + 1) for n in places if n in bad]
            first += size
        summary = rerank_files(source, Path(name, "out"), scorer=CrcScorer())
        result = pq.read_table(Path(name, "out", "rows"))
        assert result["query"].to_pylist() == right
        assert result["score"].to_pylist() == [relevance(str(q), "t") for q in right]
        assert [(row["file"], row["number"]) for row in read_bad(Path(name, "out"))] == wrong
        assert summary.rows == sum(sizes)


def test_columns_and_their_types_are_kept(tmp_path: Path) -> None:
    day = dt.date(2026, 1, 2)
    columns = {
        "id": pa.array([1, 2, 3], pa.int16()),
        "query": ["a", "b", " "],
        "documents": [["x", "y", "z"], [], ["x"]],
        "day": pa.array([day, None, day], pa.date32()),
        "raw": pa.array([b"\xff", b"", b"1"], pa.binary()),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    rerank_files(tmp_path / "in.parquet", tmp_path / "out", top_n=2, scorer=CrcScorer())
    result = pq.read_table(tmp_path / "out" / "rows")
    assert result.drop(["hits"]) == pa.table(columns).slice(0, 2)
    assert result["hits"].to_pylist() == [expected("a", ["x", "y", "z"], 2), []]
    [bad] = read_bad(tmp_path / "out")
    assert (bad["number"], bad["row"]["id"], bad["row"]["day"]) == (3, 3, "2026-01-02")


def test_a_large_row_group_is_divided(tmp_path: Path) -> None:
    table = pa.table({"query": ["q"] * 90, "text": [f"text {n}" for n in range(90)]})
    pq.write_table(table, tmp_path / "in.parquet")
    rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    assert len([*(tmp_path / "out" / "rows").iterdir()]) > 3
    assert pq.read_table(tmp_path / "out" / "rows").drop(["score"]) == table


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"question": ["q"], "text": ["t"]}, "there is no 'query', only 'question', 'text'"),
        ({"query": ["q"]}, "neither 'documents' nor 'text', only 'query'"),
        ({"query": ["q"], "text": ["t"], "score": [1]}, "there is a 'score' already"),
    ],
)
def test_columns_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=rf"in\.parquet: .*{message}"):
        rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_text("text")
    with pytest.raises(InputError, match=r"in\.parquet cannot be read as Parquet"):
        rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())


def groups_of(file: Path, *sizes: int) -> pa.Table:
    """Write row groups of some sizes, with a text of 100 bytes in each row."""
    table = pa.table(
        {
            "query": ["q"] * sum(sizes),
            "text": [f"{n:0100d}" for n in range(sum(sizes))],
        }
    )
    with pq.ParquetWriter(file, table.schema, use_dictionary=False, compression="none") as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.slice(start, size))
            start += size
    return table


def test_a_row_group_is_decoded_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has 2,000 times the size of a partition."""
    decoded: list[int] = []
    original = pq.ParquetFile.read_row_groups

    def read_row_groups(self: Any, groups: list[int]) -> Any:
        decoded.extend(groups)
        return original(self, groups)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read_row_groups)
    table = groups_of(tmp_path / "in.parquet", 2000)
    rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    assert len(decoded) == 16
    assert pq.read_table(tmp_path / "out" / "rows").drop(["score"]) == table


@given(
    sizes=st.lists(st.integers(0, 3), max_size=12) | st.lists(st.integers(0, 40), max_size=4),
    target=st.integers(1, 4000),
)
def test_partitions_have_the_size_that_is_asked_for(sizes: list[int], target: int) -> None:
    """Small row groups are joined, and large ones divided."""
    with tempfile.TemporaryDirectory() as name:
        groups_of(file := Path(name, "in.parquet"), *sizes)
        metadata = pq.ParquetFile(file).metadata
        ranges = [*Parquet().plan(str(file), Columns(), target)]
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    assert sum(part.rows for part in ranges) == sum(sizes)
    assert [part.first for part in ranges] == [
        sum(part.rows for part in ranges[:n]) for n in range(len(ranges))
    ]
    total = sum(group.total_byte_size for group in groups)
    # Each has more than half of the size together with the one after it.
    assert len(ranges) <= 2 * total / target + 2
    assert all(part.rows for part in ranges) or not sum(sizes)


def test_text_that_is_not_utf_8_is_a_bad_row(tmp_path: Path) -> None:
    """Other writers do not check it, and pyarrow does not when it reads."""
    broken = pa.array([b"a", b"\xffb", b"c"]).cast(pa.binary()).view(pa.string())
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], broken)
    for number, table in enumerate(
        [
            pa.table({"query": ["q"] * 3, "text": broken}),
            pa.table({"query": broken, "text": ["t"] * 3}),
            pa.table({"query": ["q"] * 3, "documents": lists}),
        ]
    ):
        (source := tmp_path / str(number)).mkdir()
        pq.write_table(table, source / "in.parquet")
        summary = rerank_files(source, tmp_path / f"out-{number}", scorer=CrcScorer())
        assert (summary.rows, summary.bad_rows) == (3, 1)
        [bad] = read_bad(tmp_path / f"out-{number}")
        assert bad["number"] == 2
        assert "it is not UTF-8 text" in bad["reason"]
        assert "\\xffb" in str(bad["row"].values())
        assert len(pq.read_table(tmp_path / f"out-{number}" / "rows")) == 2


def test_a_bad_row_may_have_values_that_python_cannot_represent(tmp_path: Path) -> None:
    columns = {
        "query": ["q", " "],
        "text": ["t", "t"],
        "far": pa.array([0, 10**18], pa.timestamp("ms")),
        "fine": pa.array([1, 1], pa.timestamp("ns")),
        "nested": pa.array([[1], [10**18]], pa.list_(pa.timestamp("ms"))),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    [bad] = read_bad(tmp_path / "out")
    assert bad["row"]["query"] == " "
    assert "1970-01-01 00:00:00.000000001" in bad["row"]["fine"]
    assert len(bad["row"]["nested"]) == 1


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_file_with_a_damaged_page_is_named(tmp_path: Path, compression: str) -> None:
    table = pa.table({"query": [f"q{n}" for n in range(99)], "text": ["t"] * 99})
    source = tmp_path / "in.parquet"
    pq.write_table(table, source, compression=compression, use_dictionary=False)
    data = source.read_bytes()
    source.write_bytes(data[:20] + b"\xff" * 100 + data[120:])
    with pytest.raises(InputError, match=r"in\.parquet cannot be read as Parquet: "):
        rerank_files(source, tmp_path / "out", scorer=CrcScorer())


def test_an_error_of_the_system_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), file)

    pq.write_table(pa.table({"query": ["q"], "text": ["t"]}), tmp_path / "in.parquet")
    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(OSError, match=r"Input/output error: .*in\.parquet") as caught:
        rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("name", ["query", "documents", "text"])
def test_a_file_with_two_columns_of_a_name_that_is_read_is_named(tmp_path: Path, name: str) -> None:
    names = ["query", "documents", "text", name]
    columns = {"query": ["q"], "documents": [["d"]], "text": ["t"]}
    table = pa.table([pa.array(columns[each]) for each in names], names)
    pq.write_table(table, tmp_path / "in.parquet")
    message = rf"in\.parquet: there are 2 columns '{name}': rename all but one"
    with pytest.raises(InputError, match=message):
        rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    assert not (tmp_path / "out").exists()


def test_two_other_columns_of_a_name_are_kept(tmp_path: Path) -> None:
    table = pa.table([pa.array([each]) for each in "qtab"], ["query", "text", "x", "x"])
    pq.write_table(table, tmp_path / "in.parquet")
    rerank_files(tmp_path / "in.parquet", tmp_path / "out", scorer=CrcScorer())
    [part] = (tmp_path / "out" / "rows").iterdir()
    assert pq.ParquetFile(part).read().drop_columns(["score"]) == table
