"""
Run a server as a child process, and stop it with all its children when standard input closes.

Usage: `python guard.py SECONDS COMMAND...`, where SECONDS is the time for an orderly shutdown.

A killed parent cannot clean up, but the operating system closes its pipes, so EOF on standard input
is the shutdown signal. The file is run directly and needs only the standard library, so that it
starts at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

_KILL_WAIT = 5.0  # seconds until killed processes are gone


def main(patience: float, command: list[str]) -> int:
    """
    Run a command until it exits or standard input closes.

    Args:
        patience: The seconds between SIGTERM and SIGKILL.
        command: The command and its arguments.

    Returns:
        The command's exit status. As in a shell, 128 plus the signal's number if a signal ended
        it, and 127 if it could not be started.
    """
    try:
        # In a process group of its own, which its children inherit.
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", flush=True)
        return 127
    closed = threading.Event()
    threading.Thread(target=_wait_for_eof, args=(closed,), daemon=True).start()
    while server.poll() is None and not closed.wait(0.1):
        pass
    for kind, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, _KILL_WAIT)):
        deadline = time.monotonic() + wait
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        while _group_exists(server) and time.monotonic() < deadline:
            time.sleep(0.05)
    status = server.wait()
    return status if status >= 0 else 128 - status


def _wait_for_eof(closed: threading.Event) -> None:
    # Unbuffered: the interpreter's exit would wait for the lock of a buffer.
    while os.read(0, 1024):
        pass
    closed.set()


def _group_exists(server: subprocess.Popen[bytes]) -> bool:
    server.poll()  # a dead child stays in its group until someone waits for it
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
