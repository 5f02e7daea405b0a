"""What the tests of serve share."""

from __future__ import annotations

import pytest

from qwen3_reranker.serve.engines import ENGINES


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without the keys that this machine may have."""
    for engine in ENGINES.values():
        monkeypatch.delenv(engine.key_variable, raising=False)
