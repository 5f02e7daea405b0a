"""
Runs a server as a child and ends it, with all that it started, when standard input closes.

A test run that is interrupted or killed takes no leave, but the system closes its pipes. So the
one who starts a server holds the other end of this process's standard input, and nothing else
is needed for the server to end: `python guard.py COMMAND...`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE = 5.0  # seconds for an orderly end, and then for the other one


def main(command: list[str]) -> int:
    # In a group of its own, which its children are born into.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    left = threading.Event()
    threading.Thread(target=_wait_for_the_end_of_input, args=(left,), daemon=True).start()
    while server.poll() is None and not left.wait(0.1):
        pass
    for kind in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        while _group_lives(server) and time.monotonic() < deadline:
            time.sleep(0.05)
    return server.wait()


def _wait_for_the_end_of_input(left: threading.Event) -> None:
    # Without a buffer, whose lock the interpreter's end would wait for.
    while os.read(0, 1024):
        pass
    left.set()


def _group_lives(server: subprocess.Popen[bytes]) -> bool:
    server.poll()  # a dead child stays in its group until it is waited for
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
