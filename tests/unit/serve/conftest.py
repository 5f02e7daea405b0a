"""What the tests of serve share."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3_reranker.serve.engines import ENGINES


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without the keys that this machine may have."""
    for engine in ENGINES.values():
        monkeypatch.delenv(engine.key_variable, raising=False)


@pytest.fixture(autouse=True)
def no_installed_engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    Run as if `install-engine` had not been run, except the tests marked `engine`.

    Asking the engine's interpreter for versions takes 50 ms each time.
    """
    if "engine" not in request.keywords:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
