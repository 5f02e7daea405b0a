"""Write files: check early whether it will be possible, and write each as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from qwen3_reranker.errors import InputError

__all__ = ["require_writable", "write_atomically"]


def require_writable(option: str, path: Path | None, suffix: str = "") -> None:
    """
    Check that a file can be written, before the work whose result it is to hold.

    Args:
        option: The option that names the file, for messages.
        path: The file. None is not checked.
        suffix: How its name must end. "" allows any name.

    Raises:
        InputError: The file cannot be written.
    """
    if path is None:
        return
    if suffix and path.suffix != suffix:
        raise InputError(f"{option} {path}: give a name that ends in {suffix}")
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder: give a file")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"{option} {path}: give a file in a folder that exists")
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise InputError(f"{option} {path}: you may not write there, so give another file")


def write_atomically(path: Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """
    Write a file so that it appears whole or not at all, and flush it to the disk.

    A file that exists keeps its permissions, and if writing fails, its content. A symbolic link is
    followed. Pipes and devices are written to directly.

    Args:
        path: The file.
        content: Its content, or a function that writes it.

    Raises:
        OSError: The file cannot be written.
    """
    if _is_special(path):
        with path.open("wb") as file:
            _put(content, file)
        return
    path = path.resolve()
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            _put(content, file)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The entry in the folder has to be stored, too. Windows cannot do this, and need not.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _put(content: bytes | Callable[[IO[bytes]], object], file: IO[bytes]) -> None:
    if isinstance(content, bytes):
        file.write(content)
    else:
        content(file)


def _is_special(path: Path) -> bool:
    """Return whether a path is a pipe, a device or a folder, which cannot be replaced."""
    return path.exists() and not path.is_file()
