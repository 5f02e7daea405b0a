"""The application: its commands, and what a shell sees of errors."""

from __future__ import annotations

import sys

import typer

from qwen3_reranker.cli.console import err
from qwen3_reranker.cli.convert import convert
from qwen3_reranker.cli.doctor import doctor
from qwen3_reranker.cli.rerank import rerank
from qwen3_reranker.cli.serve import serve
from qwen3_reranker.errors import RerankerError

__all__ = ["app", "run"]

app = typer.Typer(
    help="Convert, serve, check and try Qwen3 rerankers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (rerank, convert, serve, doctor):
    app.command()(_command)


def run() -> None:
    """Run the command; an error of this package is a message and exit code 2, not a traceback."""
    try:
        app()
    except RerankerError as error:
        # As it is: a message may hold brackets, which rich would read as markup.
        err.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
