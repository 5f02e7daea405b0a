"""The two consoles of the command: results go to standard output, everything else to stderr."""

from __future__ import annotations

from rich.console import Console

__all__ = ["err", "out"]

out = Console()
err = Console(stderr=True)
