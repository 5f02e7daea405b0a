"""`rerank_files` without Ray: what is written, what is refused, and what a later run repeats."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import EngineError, InputError
from qwen3_reranker.bulk import BulkProgress, BulkSummary, files, rerank_files

from support.bulk import (
    TOO_LONG,
    CrcScorer,
    DyingScorer,
    expected,
    read_bad,
    read_rows,
    relevance,
    write_lines,
)

text = st.text(st.characters(codec="utf-8"), max_size=12)
# Not blank, and without the words that make the scorer fail.
query = st.integers(0, 9).map(lambda number: f"query {number}")
other = st.dictionaries(
    st.sampled_from(["id", "source", "\u2028", "text\n"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text | st.lists(text),
    max_size=3,
)
documents = st.fixed_dictionaries({"query": query, "documents": st.lists(text, max_size=5)})
pairs = st.fixed_dictionaries({"query": query, "text": text})
good = st.builds(lambda row, more: {**more, **row}, documents | pairs, other)
bad = st.sampled_from(
    [
        {"query": " ", "documents": []},
        {"query": f"{TOO_LONG} to score", "documents": ["a"]},
        {"query": f"{TOO_LONG} to score", "text": "a"},
        {"query": "q", "documents": "a"},
        {"query": "q", "documents": ["a", 7]},
        {"query": "q", "documents": None},
        {"query": "q", "text": None},
        {"query": "q"},
        {"documents": ["a"]},
        {"query": "q", "documents": ["a"], "hits": []},
        {"query": "q", "text": "a", "score": 1},
        {"query": "\ud800", "text": "a"},
        {"query": "q", "documents": ["\ud800"]},
        [],
        "text",
        b"{broken",
        b'{"query": "\xff", "text": "a"}',
        b"[" * 100_000,
    ]
)
blank = st.sampled_from([b"", b" \t", b"\r"])
rows = st.lists(good | bad | blank, max_size=30).filter(lambda rows: not replaces_column(rows))


def replaces_column(rows: list[Any]) -> bool:
    """Return whether the first row has a column with the name of the result."""
    first = next((row for row in rows if not isinstance(row, bytes) or row.strip()), None)
    return isinstance(first, dict) and ("hits" in first or "score" in first)


def scored(row: dict[str, Any], top_n: int | None = None) -> dict[str, Any]:
    """Return what a row becomes."""
    if "documents" in row:
        return {**row, "hits": expected(row["query"], row["documents"], top_n)}
    return {**row, "score": relevance(row["query"], row["text"]) if row["text"].strip() else 0.0}


def is_good(row: Any) -> bool:
    return isinstance(row, dict) and row.get("query", "").startswith("query ")


@pytest.fixture(scope="module")
def folder() -> Any:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@given(rows=rows, top_n=st.none() | st.integers(1, 3))
def test_every_row_is_scored_once_or_named_with_a_reason(
    folder: Path, rows: list[Any], top_n: int | None
) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, target = write_lines(Path(name, "in.jsonl"), rows), Path(name, "out")
        progress: list[BulkProgress] = []
        summary = rerank_files(
            source, target, top_n=top_n, scorer=CrcScorer(), on_progress=progress.append
        )
        assert read_rows(target) == [scored(row, top_n) for row in rows if is_good(row)]
        lines = [
            n for n, row in enumerate(rows, 1) if not (isinstance(row, bytes) and not row.strip())
        ]
        wrong = [n for n in lines if not is_good(rows[n - 1])]
        found = read_bad(target)
        assert [(row["file"], row["number"]) for row in found] == [("in.jsonl", n) for n in wrong]
        assert all(row["reason"] for row in found)
        for n, row in zip(wrong, found, strict=True):
            if not isinstance(rows[n - 1], bytes):
                assert row["row"] == rows[n - 1]
        assert (summary.rows, summary.bad_rows) == (len(lines), len(wrong))
        assert not progress or progress[-1].rows == progress[-1].total == len(rows)


def test_other_keys_are_kept_to_the_byte(tmp_path: Path) -> None:
    line = (
        b'{"price": 1.50, "n": 123456789012345678901234567890, "query":"q", "text":"t" , "x": NaN}'
    )
    source = write_lines(tmp_path / "in.jsonl", [line])
    rerank_files(source, tmp_path / "out", scorer=CrcScorer())
    [part] = (tmp_path / "out" / "rows").iterdir()
    assert part.read_bytes() == b'%b, "score": %b}\n' % (
        line[:-1],
        json.dumps(relevance("q", "t")).encode(),
    )


def test_consecutive_pairs_of_a_query_are_scored_together(tmp_path: Path) -> None:
    names = [("a", 300), ("b", 1), ("a", 2)]
    rows = [{"query": q, "text": f"text {n}"} for q, count in names for n in range(count)]
    files._SMALLEST_PARTITION = 2**20  # restored by the fixture
    scorer = CrcScorer()
    rerank_files(write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out", scorer=scorer)
    assert scorer.calls == [("a", 256), ("a", 44), ("b", 1), ("a", 2)]
    assert read_rows(tmp_path / "out") == [scored(row) for row in rows]


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.jsonl", [{"q": "a", "passages": ["b"]}, {"q": "a", "p": "c"}]
    )
    names: Any = {"query": "q", "documents": "passages", "text": "p"}
    rerank_files(source, tmp_path / "out", scorer=CrcScorer(), **names)
    first, second = read_rows(tmp_path / "out")
    assert first["hits"] == expected("a", ["b"])
    assert second["score"] == relevance("a", "c")


def test_a_crash_of_the_engine_repeats_nothing_that_was_scored(tmp_path: Path) -> None:
    rows = [{"query": q, "documents": ["x", "y"]} for q in ("query a", "query crash", "query b")]
    source = write_lines(tmp_path / "in.jsonl", rows)
    rerank_files(source, tmp_path / "out", scorer=CrcScorer(crashes=1))
    assert read_rows(tmp_path / "out") == [scored(row) for row in rows]


def test_a_run_whose_engine_ends_keeps_what_was_scored(tmp_path: Path) -> None:
    rows = [{"query": f"query {n}", "documents": ["x" * 50]} for n in range(40)]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    with pytest.raises(EngineError, match="did not start"):
        rerank_files(source, target, scorer=DyingScorer(30))
    assert not (target / "bad.jsonl").exists()
    summary = rerank_files(source, target, scorer=CrcScorer())
    assert read_rows(target) == [scored(row) for row in rows]
    assert summary.documents == 40
    assert summary.new_documents < 40


class Killed(BaseException):
    """Ends the run at once."""


@given(rows=rows, kills=st.lists(st.integers(0, 40), max_size=4))
def test_runs_that_are_killed_lose_and_repeat_nothing(
    folder: Path, rows: list[Any], kills: list[int]
) -> None:
    """A kill is simulated by operations on files that fail from then on, the clean-up included."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, target = write_lines(Path(name, "in.jsonl"), rows), Path(name, "out")
        for operations in kills:
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                fail_after(operations, patch)
                rerank_files(source, target, scorer=CrcScorer())
            for part in (target / "rows").glob("part-*"):  # each is whole
                assert all(map(json.loads, part.read_bytes().splitlines()))
        summary = rerank_files(source, target, scorer=CrcScorer())
        assert read_rows(target) == [scored(row) for row in rows if is_good(row)]
        assert len(read_bad(target)) == summary.bad_rows
        again = rerank_files(source, target, scorer=CrcScorer())
        assert (again.new_documents, again.bad_rows) == (0, summary.bad_rows)
        assert not [*target.rglob("*.tmp")]


def fail_after(operations: int, patch: pytest.MonkeyPatch) -> None:
    left = [operations]

    def wrapped(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    patch.setattr("qwen3_reranker.output_files.os.fsync", wrapped(os.fsync))
    for name in ("replace", "unlink", "open", "mkdir"):
        patch.setattr(Path, name, wrapped(getattr(Path, name)))


PROGRAM = """
import sys
from pathlib import Path
from qwen3_reranker.bulk import files
from support.bulk import CrcScorer
files._SMALLEST_PARTITION = 300
pids = Path(sys.argv[3]) if sys.argv[3:] else None
files.rerank_files(sys.argv[1], sys.argv[2], scorer=CrcScorer(seconds=0.01, pids=pids))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_random_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rows = [{"query": f"query {n % 7}", "documents": [f"{n}", "x"]} for n in range(120)]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = 0
    for _ in range(3):
        run = subprocess.Popen([sys.executable, "-c", PROGRAM, source, target], env=environment)
        before, deadline = len([*target.glob("rows/part-*")]), time.monotonic() + 60
        # Once it writes, it is killed within the next parts.
        while run.poll() is None and len([*target.glob("rows/part-*")]) == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.uniform(0.1, 0.4))
        run.send_signal(signal.SIGKILL)
        killed += run.wait() == -signal.SIGKILL
    assert killed
    subprocess.run([sys.executable, "-c", PROGRAM, source, target], env=environment, check=True)
    assert read_rows(target) == [scored(row) for row in rows]


@pytest.mark.slow
def test_ctrl_c_ends_a_run_without_waiting_for_its_partitions(tmp_path: Path) -> None:
    rows = [{"query": f"query {n}", "documents": ["x"]} for n in range(30_000)]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = PROGRAM.replace("= 300", "= 300_000")  # a partition takes longer than this test
    scoring = tmp_path / "scoring"
    scoring.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", program, source, target, scoring], env=environment
    )
    deadline = time.monotonic() + 60
    while not any(scoring.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) != 0
    assert [*target.glob("rows/*")] == []


def test_a_part_that_was_removed_or_damaged_is_written_again(tmp_path: Path) -> None:
    rows = [{"query": f"query {n}", "documents": ["x" * 90]} for n in range(20)]
    source, target = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out"
    rerank_files(source, target, scorer=CrcScorer())
    first, second, *_ = sorted((target / "rows").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-9])
    assert rerank_files(source, target, scorer=CrcScorer()).new_documents > 0
    assert read_rows(target) == [scored(row) for row in rows]


def written(tmp_path: Path) -> tuple[Path, Path]:
    source = write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "t"}])
    rerank_files(source, tmp_path / "out", scorer=CrcScorer(), top_n=2)
    return source, tmp_path / "out"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"top_n": 3}, "created with top_n=2, and this run has top_n=3"),
        ({"instruction": "i"}, "without instruction=, and this run has instruction='i'"),
        ({"top_n": None}, "created with top_n=2, and this run does not have it"),
        ({"query": "id"}, "query='query', and this run has query='id'"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    source, target = written(tmp_path)
    with pytest.raises(InputError, match=message):
        rerank_files(source, target, **{"top_n": 2, "scorer": CrcScorer(), **changed})


def test_another_model_is_refused(tmp_path: Path) -> None:
    source, target = written(tmp_path)
    scorer = CrcScorer()
    scorer.model = "other"
    with pytest.raises(InputError, match="model='crc', and this run has model='other'"):
        rerank_files(source, target, scorer=scorer, top_n=2)


def test_a_folder_with_other_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "t"}])
    with pytest.raises(InputError, match="neither empty nor the output"):
        rerank_files(source, tmp_path, scorer=CrcScorer())
    assert [*tmp_path.iterdir()] == [source]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_n": 0}, "top_n=0"),
        ({"on_error": "keep_order"}, "on_error= cannot be used"),
        ({"concurrency": 2}, "only a Ray cluster"),
        ({"num_gpus": 1}, "only a Ray cluster"),
        ({"scorer": None, "max_length": 0}, "max_length=0"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "t"}])
    with pytest.raises(InputError, match=message):
        rerank_files(source, tmp_path / "out", **{"scorer": CrcScorer(), **arguments})
    assert not (tmp_path / "out").exists()


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise there would be a folder with the name "~"."""
    write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "t"}])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    rerank_files("~/in.jsonl", "~/out", scorer=CrcScorer())
    assert len(read_rows(tmp_path / "out")) == 1
    assert not [*Path().iterdir()]


@pytest.mark.parametrize("target", ["file", "file/out", "file/below/out", "link"])
def test_an_output_that_cannot_be_a_folder_is_refused_at_once(tmp_path: Path, target: str) -> None:
    """The model is not looked up before, so one that does not exist goes unnoticed."""
    source = write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "t"}])
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    name = target.partition("/")[0]
    message = f"{tmp_path / name} is not a folder: give another folder for the output"
    with pytest.raises(InputError, match=re.escape(message)):
        rerank_files(source, tmp_path / target, model="/nowhere/model")


def test_a_scorer_is_closed_once_and_at_the_end(tmp_path: Path) -> None:
    class Closing(CrcScorer):
        closed = 0

        async def score(self, *args: Any) -> Any:
            assert not self.closed
            return await super().score(*args)

        async def aclose(self) -> None:
            self.closed += 1

    source = write_lines(tmp_path / "in.jsonl", [{"query": "q", "text": "t"}])
    rerank_files(source, tmp_path / "out", scorer=(scorer := Closing()))
    assert scorer.closed == 1


def test_the_rate_and_the_time_left_are_those_of_this_run() -> None:
    progress = BulkProgress(30, 40, 100, 5.0, 2.5)
    assert progress.documents_per_second == 20
    assert BulkSummary(1, 2, 0, Path("bad.jsonl"), 2, 1.0).rows == 1
