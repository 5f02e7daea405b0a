"""Write lines to a stream that may not take them for a while."""

from __future__ import annotations

import logging
import select
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = ["LineWriter"]

_logger = logging.getLogger(__name__)

# The lines that wait for the stream, a few MiB of them.
_MOST_WAITING = 10_000
# Seconds for which the end waits for lines that have not been written.
_PATIENCE = 5.0


class LineWriter:
    """
    Write lines to a stream in a thread, so that a stream that blocks holds nobody up.

    A pipe blocks when its reader hangs, and a terminal when its user stops the output. Lines that
    come then wait, up to 10,000 of them. Further ones are dropped; how many is logged when those
    that wait have been written. Lines that cannot be written, such as to a full disk, are lost.

    It is a context manager. At its end it waits up to 5 seconds for the lines that still wait.

    Args:
        stream: Where lines are written, in its encoding. Characters that the encoding lacks are
            escaped.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        stream.flush()
        # A thread that blocks in `stream.write` would hold the stream's lock, without which Python
        # cannot end. The raw stream has no lock.
        self._raw: Any = getattr(stream.buffer, "raw", stream.buffer)
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_PATIENCE)

    def write(self, line: str) -> None:
        """
        Write a line as soon as the stream takes it. This never waits.

        Args:
            line: The line, with its end.
        """
        with self._changed:
            if len(self._lines) >= _MOST_WAITING:
                self._dropped += 1
                return
            self._lines.append(line)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            dropped = 0
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                line = self._lines.popleft()
                if not self._lines:
                    dropped, self._dropped = self._dropped, 0
            with suppress(OSError, ValueError):
                self._write(line.encode(self._stream.encoding, "backslashreplace"))
            if dropped:
                _logger.warning("%d lines of the access log were dropped", dropped)

    def _write(self, data: bytes) -> None:
        while data:
            if count := self._raw.write(data):
                data = data[count:]
            else:  # a stream that does not block, and that takes nothing now
                select.select((), (self._raw,), ())
