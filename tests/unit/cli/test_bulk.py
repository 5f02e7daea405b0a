"""`qwen3-reranker bulk`: exit codes, messages and options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bulk import read_bad, read_rows, write_lines
from support.command_line import Call
from support.scripted_server import MODEL, ScriptedServer, relevance

ROWS = [
    {"id": 1, "query": "copy a folder", "documents": ["Copy a folder.", "Shuffle a list.", " "]},
    {"id": 2, "query": "copy a folder", "text": "Copy a folder."},
]


@pytest.fixture
def url() -> Iterator[str]:
    with ScriptedServer() as server:
        yield server.url


def test_rows_are_scored_and_counted(tmp_path: Path, url: str, call: Call) -> None:
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    target = tmp_path / "out"
    code, printed, messages = call("bulk", str(source), str(target), "--base-url", url, "--top-n=1")
    assert (code, printed) == (0, "")
    assert "2 rows with 4 documents" in messages
    first, second = read_rows(target)
    score = relevance("copy a folder", "Copy a folder.")
    assert [hit["index"] for hit in first["hits"]] == [0]
    assert first["hits"][0]["score"] == pytest.approx(score)
    assert second["score"] == pytest.approx(score)
    assert json.loads((target / "manifest.json").read_bytes())["settings"]["model"] == MODEL


def test_bad_rows_end_with_exit_code_1_each_time(tmp_path: Path, url: str, call: Call) -> None:
    source = write_lines(tmp_path / "in.jsonl", [*ROWS, {"query": "no document"}])
    for _ in range(2):
        code, _, messages = call("bulk", str(source), str(tmp_path / "out"), "--base-url", url)
        assert code == 1
        assert "2 rows with 4 documents" in messages  # without the bad one
        assert f"1 rows cannot be scored, see {tmp_path / 'out' / 'bad.jsonl'}" in messages
    assert [row["number"] for row in read_bad(tmp_path / "out")] == [3]


def test_an_object_store_is_refused(
    tmp_path: Path, url: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    for paths in (("in.jsonl", "s3://bucket/out"), ("s3://bucket/in.jsonl", "out")):
        code, _, messages = call("bulk", *paths, "--base-url", url)
        assert code == 2
        assert f"{next(path for path in paths if '//' in path)} is not a path" in messages
        assert "rerank_dataset" in messages
    assert [*tmp_path.iterdir()] == [source]


def test_errors_name_options(tmp_path: Path, url: str, call: Call) -> None:
    arguments = ("bulk", str(write_lines(tmp_path / "in.jsonl", ROWS)), str(tmp_path / "out"))
    code, _, messages = call(*arguments, "--concurrency", "2")
    assert code == 2
    assert "only a Ray cluster can use --concurrency and --num-gpus: give --ray too" in messages
    call(*arguments, "--base-url", url, "--top-n", "2")
    code, _, messages = call(*arguments, "--base-url", url, "--top-n", "3")
    assert code == 2
    assert "was created with --top-n 2, and this run has --top-n 3" in messages

    source = write_lines(tmp_path / "scored.jsonl", [{**ROWS[1], "score": 7.0}])
    other = ("bulk", str(source), str(tmp_path / "other"), "--base-url", url)
    code, _, messages = call(*other)
    assert code == 2
    assert "there is a 'score' already, which the result would replace: give --result" in messages
    assert call(*other, "--result", "relevance")[0] == 0
    [row] = read_rows(tmp_path / "other")
    assert (row["score"], "relevance" in row) == (7.0, True)


def test_without_a_terminal_the_progress_is_a_line_now_and_then(
    tmp_path: Path, url: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen3_reranker.cli.bulk._INTERVAL", 0)
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    _, _, messages = call("bulk", str(source), str(tmp_path / "out"), "--base-url", url)
    pattern = r"^1 of 2 rows, [\d.,]+ documents per second, 0:00:\d\d left$"
    assert re.search(pattern, messages, re.MULTILINE), messages
