"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from qwen3_reranker import dialects


@pytest.fixture
def clean_register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the dialects that a test registers."""
    monkeypatch.setattr(dialects, "_register", dict(dialects._register))
