"""Which files are the input, and what happens if they change during a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineError, InputError, Scores
from qwen3_reranker.bulk import rerank_files
from qwen3_reranker.bulk.jsonl import JsonLines
from qwen3_reranker.bulk.partitions import Partition, Range

from support.bulk import CrcScorer, DyingScorer, read_bad, read_rows, write_lines

ROWS = [{"query": f"query {n}", "text": "t" * 90} for n in range(20)]


def write_input(folder: Path, *names: str) -> Path:
    """Write files with a row that has the file's name as the text, and a bad one."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_lines(folder / name, [{"query": "q", "text": name}, {}])
    return folder


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    read = ["C.JSONL", "a.ndjson", "b/1.jsonl", "spark.jsonl/part-0.jsonl"]
    ignored = ["_old/0.jsonl", ".x.jsonl", ".git/x.jsonl", "c.txt", "d.jsonl.bak", "e.json"]
    source, target = write_input(tmp_path / "in", *read, *ignored), tmp_path / "out"
    rerank_files(source, target, scorer=CrcScorer())
    assert [row["text"] for row in read_rows(target)] == read
    assert [row["file"] for row in read_bad(target)] == read


def test_outputs_below_the_input_are_not_input(tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(EngineError):
        rerank_files(tmp_path, tmp_path / "scored", scorer=DyingScorer(10))
    rerank_files(tmp_path, tmp_path / "scored", scorer=CrcScorer())
    first = read_rows(tmp_path / "scored")
    assert len(first) == 20
    assert rerank_files(tmp_path, tmp_path / "scored", scorer=CrcScorer()).new_documents == 0
    rerank_files(tmp_path, tmp_path / "again" / "scored", scorer=CrcScorer())
    assert read_rows(tmp_path / "again" / "scored") == first


def test_an_output_is_input_only_by_the_folder_of_its_rows(tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", ROWS)
    rerank_files(tmp_path, tmp_path / "out", scorer=CrcScorer())
    with pytest.raises(InputError, match="out is the output of a run: give .*out/rows"):
        rerank_files(tmp_path / "out", tmp_path / "again", scorer=CrcScorer())
    rows, again = tmp_path / "out" / "rows", tmp_path / "again"
    summary = rerank_files(rows, again, scorer=CrcScorer(), result="second")
    assert summary.rows == 20


@pytest.mark.parametrize("url", ["s3://bucket/rows", "file:///rows", Path("gs://bucket/rows")])
@pytest.mark.parametrize("is_source", [True, False])
def test_urls_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: Any, *, is_source: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(InputError, match="(s3|file|gs):/+.*rows is not a path.*rerank_dataset"):
        rerank_files(*((url, "out") if is_source else (source, url)), scorer=CrcScorer())
    assert [*tmp_path.iterdir()] == [source]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no file whose name ends in .jsonl, .ndjson, .parquet"),
        (["a.jsonl", "b.parquet"], "one format at a time"),
        (["a.jsonl", "b/c.jsonl.gz"], r"b/c\.jsonl\.gz is compressed"),
        (["a.Parquet.ZST"], r"a\.Parquet\.ZST is compressed"),
        (["year=2026/a.jsonl"], "'year=2026' in .*in looks like a column .* rerank_dataset"),
    ],
)
def test_folders_that_cannot_be_read_are_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    (tmp_path / "in").mkdir()
    write_input(tmp_path / "in", *names)
    with pytest.raises(InputError, match=message):
        rerank_files(tmp_path / "in", tmp_path / "out", scorer=CrcScorer())
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_column_can_be_given_itself(tmp_path: Path) -> None:
    source = write_input(tmp_path / "year=2026", "a.jsonl")
    assert rerank_files(source, tmp_path / "out", scorer=CrcScorer()).rows == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "missing does not exist"),
        ("rows", "the name of .*rows does not end in .jsonl, "),
        ("pipe", "pipe is neither a file nor a folder"),
        ("rows.csv", "the name of .*rows.csv does not end in .jsonl, "),
        ("rows.jsonl.gz", r"rows\.jsonl\.gz is compressed"),
    ],
)
def test_input_that_cannot_be_read_is_refused(tmp_path: Path, name: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in ("rows", "rows.csv", "rows.jsonl.gz"):
        (tmp_path / file).touch()
    with pytest.raises(InputError, match=message):
        rerank_files(tmp_path / name, tmp_path / "out", scorer=CrcScorer())


def test_json_lines_need_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qwen3_reranker.bulk.parquet", None)
    source = write_input(tmp_path / "in", "a.jsonl")
    assert rerank_files(source, tmp_path / "out", scorer=CrcScorer()).rows == 2


def test_a_folder_that_cannot_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_input(tmp_path / "in", "a.jsonl", "b/c.jsonl")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="in/b"):
        rerank_files(source, tmp_path / "out", scorer=CrcScorer())


class Changing(CrcScorer):
    """
    Calls a function once, before it scores.

    Args:
        change: The function.
        after: How many queries are scored before.
    """

    def __init__(self, change: Callable[[], object], after: int) -> None:
        super().__init__()
        self.change = change
        self.after = after

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if len(self.calls) == self.after:
            self.change()
        return await super().score(query, texts, instruction)


@pytest.mark.parametrize("after", [0, 7, 19])
def test_json_lines_that_change_during_a_run_end_it(tmp_path: Path, after: int) -> None:
    source, target = write_lines(tmp_path / "in.jsonl", ROWS), tmp_path / "out"

    def append() -> None:
        with source.open("a") as file:
            file.write('{"query": "late", "text": "t"}\n')

    with pytest.raises(InputError, match=r"in\.jsonl has changed since the run started"):
        rerank_files(source, target, scorer=Changing(append, after))
    assert not (target / "bad.jsonl").exists()
    with pytest.raises(InputError, match=r"in\.jsonl is not the file that it was when .*out"):
        rerank_files(source, target, scorer=CrcScorer())


@pytest.mark.parametrize("after", [0, 7, 19])
@pytest.mark.parametrize("rows", [0, 5, 20])
def test_parquet_that_changes_during_a_run_ends_it(tmp_path: Path, after: int, rows: int) -> None:
    source, target = tmp_path / "in.parquet", tmp_path / "out"
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, source, row_group_size=4)

    def replace() -> None:
        pq.write_table(table.slice(0, rows), tmp_path / "new", row_group_size=4)
        (tmp_path / "new").replace(source)

    with pytest.raises(InputError, match=r"in\.parquet has changed since the run started"):
        rerank_files(source, target, scorer=Changing(replace, after))
    assert not (target / "bad.jsonl").exists()


def test_a_file_that_is_removed_during_a_run_ends_it(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(FileNotFoundError, match=r"in\.jsonl"):
        rerank_files(source, tmp_path / "out", scorer=Changing(source.unlink, 7))


def test_a_file_that_changes_while_it_is_divided_leaves_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, plan = write_lines(tmp_path / "in.jsonl", ROWS), JsonLines.plan

    def changing(*args: Any) -> Any:
        yield from plan(*args)
        write_lines(source, ROWS[:3])

    monkeypatch.setattr(JsonLines, "plan", changing)
    with pytest.raises(InputError, match=r"in\.jsonl has changed since the run started"):
        rerank_files(source, tmp_path / "out", scorer=CrcScorer())
    assert not (tmp_path / "out").exists()


places = st.tuples(st.integers(0, 10**9 - 1), st.integers(0, 10**12 - 1))


@given(places=st.lists(places))
def test_names_of_parts_sort_as_the_rows_do(places: list[tuple[int, int]]) -> None:
    parts = [Partition(number, "", Range(first, 1)) for number, first in sorted(places)]
    names = [part.name for part in parts]
    assert names == sorted(names)
