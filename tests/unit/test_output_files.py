"""Files that are written as a whole or not at all, and checked before the work begins."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from qwen3_reranker import InputError
from qwen3_reranker.bench import BenchResult
from qwen3_reranker.evaluation import System, evaluate
from qwen3_reranker.output_files import require_writable, write_atomically

from support.evaluation import reranker, small

EARLIER = "an earlier file"


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 100 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def bench_result() -> BenchResult:
    return BenchResult.of(
        [],
        settings={},
        environment={"model": "demo"},
        messages={},
        duration=1.0,
        unfinished=0,
        max_concurrent_requests=1,
        client_cpu_seconds=0.0,
        repetitions=1.0,
    )


@pytest.mark.parametrize("save", [
    lambda path: bench_result().save(path),
    lambda path: evaluate(small(), System(reranker=reranker())).save(path),
])  # fmt: skip
def test_an_earlier_report_survives_a_full_disk(
    tmp_path: Path, save: Callable[[Path], None]
) -> None:
    path = tmp_path / "report.json"
    path.write_text(EARLIER)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        save(path)
    assert path.read_text() == EARLIER
    assert [*tmp_path.iterdir()] == [path]
    save(path)
    assert path.read_text() != EARLIER


def fail(file: IO[bytes]) -> None:
    file.write(b"half of it")
    raise RuntimeError


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "a", fail)
    assert not [*tmp_path.iterdir()]


def test_a_file_keeps_its_permissions_and_its_links(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text(EARLIER)
    file.chmod(0o640)
    link.symlink_to("file")
    write_atomically(link, b"new")
    assert link.is_symlink() and file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        require_writable("--json", pipe)
        write_atomically(pipe, b"new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize(("name", "message"), [
    ("a.txt", r"--json .*a.txt: give a name that ends in .json$"),
    ("a/b.json", r"--json .*a/b.json: give a file in a folder that exists$"),
    ("folder.json", r"--json .*folder.json is a folder: give a file$"),
    ("locked/a.json", r"--json .*locked/a.json: you may not write there, so give another file$"),
])  # fmt: skip
def test_a_file_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "locked").mkdir()
    # The superuser may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path / "locked")
    with pytest.raises(InputError, match=message):
        require_writable("--json", tmp_path / name, ".json")
    require_writable("--json", tmp_path / "a.json", ".json")
    require_writable("--json", None, ".json")
