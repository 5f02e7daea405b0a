"""Only one run at a time writes to an output."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qwen3_reranker import InputError, Scores
from qwen3_reranker.bulk import locking, rerank_files
from qwen3_reranker.bulk.jsonl import JsonLines

from support.bulk import CrcScorer, read_rows, write_lines

ROWS = [{"query": f"query {n}", "documents": ["x" * 90, "y"]} for n in range(20)]


class Waiting(CrcScorer):
    """Says when it begins to score, and waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begins = threading.Event()
        self.may_go_on = threading.Event()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.begins.set()
        assert await asyncio.to_thread(self.may_go_on.wait, 60)
        return await super().score(query, texts, instruction)


@pytest.mark.parametrize("top_n", [1, 2])
def test_an_output_is_refused_while_another_run_writes_to_it(tmp_path: Path, top_n: int) -> None:
    source, target = write_lines(tmp_path / "in.jsonl", ROWS), tmp_path / "out"
    scorer = Waiting()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(rerank_files, source, target, top_n=1, scorer=scorer)
        try:
            assert scorer.begins.wait(60)
            with pytest.raises(InputError, match="another run is writing to .*out: wait"):
                rerank_files(source, target, top_n=top_n, scorer=CrcScorer())
        finally:
            scorer.may_go_on.set()
        assert run.result().new_documents == 40
    assert rerank_files(source, target, top_n=1, scorer=CrcScorer()).new_documents == 0


def test_an_output_that_another_run_has_just_created_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write_lines(tmp_path / "in.jsonl", ROWS), tmp_path / "out"
    plan = JsonLines.plan

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(JsonLines, "plan", plan)
        rerank_files(source, target, top_n=1, scorer=CrcScorer())
        return plan(*args)

    monkeypatch.setattr(JsonLines, "plan", overtaken)
    with pytest.raises(InputError, match="created with top_n=1, and this run has top_n=2"):
        rerank_files(source, target, top_n=2, scorer=CrcScorer())
    assert {len(row["hits"]) for row in read_rows(target)} == {1}


def refuse_locks(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(locking, "_lock", refuse)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
def test_a_run_needs_no_locks_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    refuse_locks(monkeypatch, error)
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    assert rerank_files(source, tmp_path / "out", scorer=CrcScorer()).documents == 40


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO, errno.EPERM])
def test_a_lock_that_fails_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    refuse_locks(monkeypatch, error)
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(OSError, match=os.strerror(error)) as caught:
        rerank_files(source, tmp_path / "out", scorer=CrcScorer())
    assert caught.value.errno == error
    assert not (tmp_path / "out" / "rows").exists()
