"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from qwen3_reranker import dialects, streaming


@pytest.fixture
def clean_register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the dialects that a test registers."""
    monkeypatch.setattr(dialects, "_register", dict(dialects._register))


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most three documents are under way."""
    monkeypatch.setattr(streaming, "WINDOW", 3)
