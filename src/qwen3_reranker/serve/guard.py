"""
Runs a server as a child and ends it, with all that it started, when standard input closes.

One who is killed takes no leave, but the system closes his pipes. So whoever starts a server holds
the other end of this process's standard input, and nothing else is needed for the server to end:
`python guard.py SECONDS COMMAND...`, where the seconds are those that the server has for an orderly
end. Run as a file, with nothing but the standard library, so that it is up at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

_LAST_WAIT = 5.0  # seconds until those that were killed are gone


def main(patience: float, command: list[str]) -> int:
    """Return the server's exit status, or as a shell does 128 and the signal that ended it."""
    try:
        # In a group of its own, which its children are born into.
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", flush=True)
        return 127
    left = threading.Event()
    threading.Thread(target=_wait_for_the_end_of_input, args=(left,), daemon=True).start()
    while server.poll() is None and not left.wait(0.1):
        pass
    for kind, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, _LAST_WAIT)):
        deadline = time.monotonic() + wait
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        while _group_lives(server) and time.monotonic() < deadline:
            time.sleep(0.05)
    status = server.wait()
    return status if status >= 0 else 128 - status


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
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
