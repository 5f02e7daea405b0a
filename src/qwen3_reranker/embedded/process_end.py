"""How an engine process ends: by a signal to its group, and why."""

from __future__ import annotations

import os
import signal

__all__ = ["EXIT_TIMEOUT", "cause_of_end", "signal_group"]

EXIT_TIMEOUT = 1.0
"""The number of seconds in which a process that has closed its connection should exit."""


def cause_of_end(code: int | None) -> str:
    """
    Say how an engine process ended.

    Args:
        code: Its exit code, negative for a signal. None if it did not exit within `EXIT_TIMEOUT`.
    """
    if code is None:
        return (
            f"the engine process closed its connection, but did not exit within {EXIT_TIMEOUT:g} s"
        )
    if code == -signal.SIGKILL:
        return "the engine process was killed (SIGKILL; the system does so if memory runs out)"
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"the engine process was ended by {names.get(-code, f'signal {-code}')}"
    return f"the engine process ended with exit code {code}"


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group. Return whether the group exists."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
