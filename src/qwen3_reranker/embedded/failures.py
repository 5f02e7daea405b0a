"""Count the failures of an engine, and stop starting it for a while after several in a row."""

from __future__ import annotations

import time

from qwen3_reranker.backoff import backoff
from qwen3_reranker.errors import EngineError

__all__ = ["Failures"]

# After the third failure in a row, and after each one that follows, calls fail at once for a while.
# The pause is given in seconds, and doubles each time.
_TOLERATED = 2
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0


class Failures:
    """
    The failures of an engine.

    Attributes:
        total: The number of all failures.
    """

    def __init__(self) -> None:
        self.total = 0
        self._in_a_row = 0
        self._failed_at = 0.0
        self._last = ""

    def add(self, words: str) -> None:
        """
        Count a failure.

        Args:
            words: The error message.
        """
        self.total += 1
        self._in_a_row += 1
        self._failed_at = time.monotonic()
        self._last = words

    def end_row(self) -> None:
        """Reset the count of failures in a row, because the engine has scored."""
        self._in_a_row = 0

    def check(self) -> None:
        """
        Raise the last error again, for a while after the engine has failed repeatedly.

        Raises:
            EngineError: The engine must not be started yet.
        """
        if self._in_a_row <= _TOLERATED:
            return
        pause = backoff(self._in_a_row - _TOLERATED, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        left = self._failed_at + pause - time.monotonic()
        if left > 0:
            raise EngineError(
                f"the engine failed {self._in_a_row} times in a row, and is not started again for "
                f"{left:.0f} s. The last time: {self._last}"
            )
