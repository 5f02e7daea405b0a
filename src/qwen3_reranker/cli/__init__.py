"""
The `qwen3-reranker` command: one module per command, each of them thin.

The functions that they call do the work. `app` puts them together.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        from qwen3_reranker.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f"the command needs typer and rich: pip install 'qwen3-reranker[cli]' ({error})")
    run()
