"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen3_reranker import dialects
from qwen3_reranker.streaming import window

from support.log_records import Records, recorded
from support.spans import Spans, collected


@pytest.fixture
def clean_register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the dialects that a test registers."""
    monkeypatch.setattr(dialects, "_register", dict(dialects._register))


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most three documents are under way."""
    monkeypatch.setattr(window, "WINDOW", 3)


@pytest.fixture
def log() -> Iterator[Records]:
    """The log records of the package."""
    with recorded() as records:
        yield records


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The spans that a test's code makes."""
    with collected() as spans:
        yield spans
