"""
The `qwen3-reranker` command, with one module per subcommand.

The modules are thin: the functions that they call do the work. `app` assembles them.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; without its dependencies, say how to install them."""
    try:
        from qwen3_reranker.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        sys.exit(f"this command needs typer and rich: pip install 'qwen3-reranker[cli]' ({error})")
    run()
