"""A file of scores, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import platformdirs

from qwen3_reranker.caching import NamedCache
from qwen3_reranker.errors import InputError
from qwen3_reranker.paths import expand_user

__all__ = ["ScoreFile", "default_score_file"]


def default_score_file() -> Path:
    """Return the file that evaluations use by default, in the user's folder for caches."""
    return Path(platformdirs.user_cache_dir("qwen3-reranker"), "evaluation-scores.sqlite3")


class ScoreFile(NamedCache):
    """
    A cache of scores in an SQLite file, for the `cache=` of a `Reranker`.

    The scores of a query are stored one by one, as soon as the last of its documents is scored. A
    process that is killed loses only those that it had not stored yet, so a later one computes no
    stored score again. Several processes may use one file at a time. SQLite is part of Python;
    unlike with `diskcache.Cache`, nothing in the file is unpickled, so a file from elsewhere runs
    no code.

    Args:
        path: The file. It is created, with its folder, if it does not exist.

    Raises:
        InputError: The file cannot be opened, or is not a file of scores.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_user(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Used on the event loop's thread and closed on another one, not at the same time.
            self._database = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=60
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            # With a write-ahead log, a commit does not wait for the disk: only a power failure
            # could lose scores, and none could damage the file.
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            self._database.close()
            raise self._unusable(error) from None

    def get(self, key: str, /) -> Any:
        """Return the value that is stored under a key, or None."""
        row = self._database.execute("SELECT value FROM scores WHERE key = ?", (key,)).fetchone()
        return None if row is None else tuple(json.loads(row[0]))

    def __setitem__(self, key: str, value: tuple[float, bool, float], /) -> None:
        """Store a value under a key."""
        self._database.execute(
            "INSERT OR REPLACE INTO scores VALUES (?, ?)", (key, json.dumps(value))
        )

    def __len__(self) -> int:
        [count] = self._database.execute("SELECT count(*) FROM scores").fetchone()
        return int(count)

    def __str__(self) -> str:
        return repr(str(self.path))

    def close(self) -> None:
        """Close the file. Closing twice is allowed."""
        with suppress(sqlite3.Error):
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unusable(self, error: Exception) -> InputError:
        return InputError(f"cache={self} cannot be used as a file of scores: {error}")
