"""A lock on a file, which the system releases when the process ends, however it ends."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]

# What a file system without locks answers.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# What the system answers if another process or thread holds the lock; on Windows, EACCES.
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(file: Path) -> Iterator[bool]:
    """
    Hold the lock on a file, unless another process or thread holds it. Do not wait for it.

    The file is created if it does not exist, and is not removed: a process that has opened it
    already would hold a lock that nobody sees.

    Args:
        file: The file. Nothing is written to it.

    Yields:
        Whether the lock is held. True, without a lock, if the file system does not support locks.

    Raises:
        OSError: The file cannot be created or locked.
    """
    with file.open("ab") as opened:
        yield _acquire(opened.fileno(), file)  # closing the file releases it


def _acquire(descriptor: int, file: Path) -> bool:
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _UNSUPPORTED:
            return True
        raise OSError(error.errno, error.strerror, str(file)) from None
    return True
