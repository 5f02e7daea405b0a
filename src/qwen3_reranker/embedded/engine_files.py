"""The folder of an engine process: temporary files, and the log, which outlives a failure."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from qwen3_reranker.redaction import Redactor

__all__ = ["TAIL", "keep_log", "last_lines", "make_folder", "remove_old_logs"]

TAIL = 16_384
"""The number of bytes at the end of a log in which `last_lines` looks."""

_PREFIX = "qwen3-reranker-"
# The name of the file that marks the folder of a failed engine, and the number of seconds for which
# the log in it is kept.
_KEPT, _KEPT_FOR = "failed", 7 * 86_400.0
# The number of lines that `last_lines` returns.
_LINES = 10
_UNIMPORTANT = re.compile(r"\s*$|(\(.*?\) )?(INFO|DEBUG) ")


def make_folder() -> Path:
    """Make a folder for the temporary files of an engine process."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX))


def last_lines(log: Path, redactor: Redactor) -> list[str]:
    """
    Return the last lines of a log, except for unimportant ones.

    Args:
        log: The log file.
        redactor: Removes secrets from the lines.
    """
    with contextlib.suppress(OSError), log.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL)
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
        # The first line may be incomplete, and begin with a part of a secret.
        text = redactor.text("\n".join(lines[1 if start else 0 :]))
        return [line for line in text.splitlines() if not _UNIMPORTANT.match(line)][-_LINES:]
    return []


def keep_log(log: Path) -> None:
    """Remove all files of a failed engine except its log, which is kept for a week."""
    with contextlib.suppress(OSError):
        for path in log.parent.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != log:
                path.unlink()
        log.with_name(_KEPT).touch()


def remove_old_logs(folder: Path) -> None:
    """
    Remove the logs of engines that failed more than a week ago.

    Args:
        folder: The parent folder of the engines' folders.
    """
    with contextlib.suppress(OSError):
        for mark in folder.glob(f"{_PREFIX}*/{_KEPT}"):
            with contextlib.suppress(OSError):  # the folder may belong to another user
                if time.time() - mark.stat().st_mtime > _KEPT_FOR:
                    shutil.rmtree(mark.parent, ignore_errors=True)
