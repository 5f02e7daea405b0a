"""Paths as users give them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["expand_user"]


def expand_user(path: str | os.PathLike[str]) -> Path:
    """
    Replace a leading "~" or "~user" with the home folder.

    Where there is none, the path is returned as it is, so that what opens it reports an error that
    names it. (`Path.expanduser()` would raise a RuntimeError.)
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111
