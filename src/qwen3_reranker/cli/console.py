"""The consoles of the command: results go to standard output, everything else to stderr."""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn

from rich.console import Console

from qwen3_reranker.terminal import escape_control, escape_json

__all__ = ["end_closed_pipe", "err", "out", "print_json", "say"]

_CLOSED_PIPE = 141  # as a shell reports a program that SIGPIPE has ended


def end_closed_pipe() -> NoReturn:
    """End the command because nobody reads its output anymore, as after `| head`."""
    # Python flushes its streams at the end, which would fail again.
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    raise SystemExit(_CLOSED_PIPE)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        end_closed_pipe()


out = _Console()
"""Prints results to standard output."""

err = _Console(stderr=True)
"""Prints progress, warnings and errors to stderr."""


def say(message: str, style: str | None = None) -> None:
    """
    Print a message to stderr verbatim: without markup, highlighting or line wrapping.

    Args:
        message: The message; its control characters are escaped.
        style: A rich style, such as "red".
    """
    err.print(escape_control(message), style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any, indent: int | None = None) -> None:
    """
    Print a value to standard output as JSON, with control characters escaped.

    In an encoding that lacks some characters, all but those of ASCII are escaped, too.

    Args:
        value: What to print.
        indent: The number of spaces per level; None for a single line.
    """
    ensure_ascii = not out.encoding.startswith("utf")
    print(escape_json(json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)))
