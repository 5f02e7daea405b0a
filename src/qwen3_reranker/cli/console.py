"""The two consoles of the command: results go to standard output, everything else to stderr."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from qwen3_reranker.terminal import escape_control, escape_json

__all__ = ["err", "out", "print_json", "say"]

out = Console()
err = Console(stderr=True)


def say(message: str, style: str | None = None) -> None:
    """Print a message to stderr as it is: without markup, highlights or hard line breaks."""
    err.print(escape_control(message), style=style, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print a value as JSON to standard output, safe for a terminal and readable by programs."""
    print(escape_json(json.dumps(value, ensure_ascii=False, indent=indent)))
