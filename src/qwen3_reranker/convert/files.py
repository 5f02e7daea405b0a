"""Files put into a folder that appears whole or not at all: linked, copied or written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from qwen3_reranker.errors import InputError

__all__ = ["appearing", "check_target", "copy", "link", "sync_folder", "write"]

_CHUNK = 8 * 2**20


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """
    Yield a folder beside `target` to fill, and rename it to `target` at the end.

    If the filling fails or is interrupted, the folder is removed. A process that is killed leaves
    it behind, under a name that says so: `target` with ".partial-" and eight letters.

    Raises:
        InputError: `target` exists and is not an empty folder, or it cannot be created.
    """
    check_target(target)
    partial = target.with_name(f"{target.name}.partial-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"{target} cannot be created ({error}): give another folder") from error
    try:
        yield partial
        sync_folder(partial)
        try:
            if target.is_dir():
                target.rmdir()  # an empty one, for Windows renames onto none
            partial.rename(target)
        except OSError:
            _refuse_taken(target)  # filled by another process meanwhile
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(target.parent)


def link(source: Path, target: Path) -> bool:
    """Make `target` another name of the file `source`; False where the file systems cannot."""
    try:
        # A hub snapshot's files are symbolic links, which would be linked instead.
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EEXIST, errno.ENOENT):
            raise
        return False
    return True


def copy(source: Path, target: Path, advance: Callable[[int], object]) -> None:
    """Copy a file to the disk a piece at a time, saying after each how many bytes it had."""
    buffer = memoryview(bytearray(_CHUNK))
    with source.open("rb", buffering=0) as read, target.open("xb", buffering=0) as written:
        while count := read.readinto(buffer):
            rest = buffer[:count]
            while rest:
                rest = rest[written.write(rest) :]
            advance(count)
        os.fsync(written.fileno())
    if (have := target.stat().st_size) != (wanted := source.stat().st_size):
        raise OSError(errno.EIO, f"{have} of {wanted} bytes were copied", str(target))


def write(target: Path, text: str) -> None:
    """Write a small text file to the disk."""
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on the disk, where the system can say so."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def check_target(target: Path) -> None:
    """
    Check that a folder can be created, without creating anything.

    Raises:
        InputError: It exists and is not empty, or the folder above it cannot be written.
    """
    _refuse_taken(target)
    parent = next(path for path in target.absolute().parents if path.exists())
    if not parent.is_dir():
        raise InputError(f"{target} cannot be created, because {parent} is a file: give another")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{target} cannot be created, because {parent} is not writable: give another folder"
        )


def _refuse_taken(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{target} is there and no folder; nothing is overwritten: give another")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"{target} is there and not empty; nothing is overwritten: remove it, or give another"
        )
