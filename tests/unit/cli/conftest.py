"""Fixtures of the tests of the command."""

from __future__ import annotations

import sys

import pytest

from qwen3_reranker.cli.app import run
from qwen3_reranker.cli.console import err, out

from support.command_line import Call


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in this process; return its exit code, standard output and error."""
    monkeypatch.setenv("COLUMNS", "200")
    # They may have been made before, and have read the variable then.
    for console in (out, err):
        monkeypatch.setattr(console, "width", 240)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qwen3-reranker", *arguments])
        with pytest.raises(SystemExit) as end:
            run()
        return (int(end.value.code or 0), *capsys.readouterr())

    return call
