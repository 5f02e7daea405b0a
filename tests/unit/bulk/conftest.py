"""Make the tests of files fast: a few rows fill a partition, and the disk is not waited for."""

from __future__ import annotations

import pytest

from qwen3_reranker.bulk import files


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few rows fill a partition."""
    monkeypatch.setattr(files, "_SMALLEST_PARTITION", 300)


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk, which takes most of the time of these tests."""
    monkeypatch.setattr("qwen3_reranker.output_files.os.fsync", lambda _: None)
