"""Fill a folder with linked, copied or new files, so that it appears completely or not at all."""

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

__all__ = ["atomic_folder", "check_target", "copy", "link", "sync_folder", "write"]

_CHUNK = 8 * 2**20  # bytes


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """
    Yield a temporary folder to fill, and rename it to `target` at the end.

    If filling it fails or is interrupted, the folder is removed. A killed process leaves it behind,
    as `target` with ".partial-" and eight hexadecimal digits appended.

    Args:
        target: A folder that does not exist yet or is empty.

    Raises:
        InputError: `target` exists and is not an empty folder that can be replaced, or cannot be
            created.
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
                target.rmdir()  # Windows does not rename onto an empty folder
            partial.rename(target)
        except OSError:
            _check_free(target)  # another process may have filled it meanwhile
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(target.parent)


def link(source: Path, target: Path) -> bool:
    """
    Create a hard link.

    Args:
        source: The existing file; symbolic links are followed.
        target: The new name.

    Returns:
        True if the link was created, False if the file system does not support it.

    Raises:
        OSError: The disk is full or broken, or `target` exists.
    """
    try:
        # The files of a Hub snapshot are symbolic links, which would be linked themselves.
        os.link(source.resolve(), target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EEXIST, errno.ENOENT):
            raise
        return False
    return True


def copy(source: Path, target: Path, advance: Callable[[int], object]) -> None:
    """
    Copy a file in chunks, and flush it to the disk.

    Args:
        source: The file to copy.
        target: The file to create.
        advance: Called after each chunk with its number of bytes.

    Raises:
        OSError: The copy is incomplete, or `target` exists.
    """
    buffer = memoryview(bytearray(_CHUNK))
    with source.open("rb", buffering=0) as read, target.open("xb", buffering=0) as written:
        while count := read.readinto(buffer):
            rest = buffer[:count]
            while rest:
                rest = rest[written.write(rest) :]
            advance(count)
        os.fsync(written.fileno())
    if (copied := target.stat().st_size) != (expected := source.stat().st_size):
        raise OSError(errno.EIO, f"{copied} of {expected} bytes were copied", str(target))


def write(target: Path, text: str) -> None:
    """
    Write a small text file in UTF-8, and flush it to the disk.

    Args:
        target: The file to create.
        text: Its content.

    Raises:
        FileExistsError: `target` exists.
    """
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, if the system supports that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def check_target(target: Path) -> None:
    """
    Check that a folder can be created, without creating anything.

    Args:
        target: A folder that does not exist yet or is empty.

    Raises:
        InputError: It exists and is not an empty folder, it is the current folder or a mount
            point, or its parent is not writable.
    """
    if target.exists() and (target.samefile(os.curdir) or os.path.ismount(target)):
        raise InputError(
            f"{target} cannot be replaced, because it is the current folder or a mount point: give "
            "a new folder below it"
        )
    _check_free(target)
    parent = next(path for path in target.absolute().parents if path.exists())
    if not parent.is_dir():
        raise InputError(
            f"{target} cannot be created, because {parent} is a file: give another folder"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{target} cannot be created, because {parent} is not writable: give another folder"
        )


def _check_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(
            f"{target} exists and is not a folder; nothing is overwritten: give another folder"
        )
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"{target} exists and is not empty; nothing is overwritten: remove it, or give another "
            "folder"
        )
