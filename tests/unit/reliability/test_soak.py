"""What is printed of a run in which a promise was broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from reliability.soak import print_logs


def test_the_ends_of_all_logs_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.log").write_bytes(b"started\nfailed\nstopped \xff\n")
    (tmp_path / "engine.log").write_text("ready\n")
    (tmp_path / "cache.db").write_text("not a log\n")
    print_logs(tmp_path, lines=2)
    assert capsys.readouterr().out.splitlines() == [
        "--- the end of engine.log",
        "ready",
        "--- the end of gateway.log",
        "failed",
        "stopped \ufffd",
    ]
