"""Assemble the subcommands, and turn their failures into messages and exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from qwen3_reranker.cli.bench import bench
from qwen3_reranker.cli.bulk import bulk
from qwen3_reranker.cli.console import end_closed_pipe, say
from qwen3_reranker.cli.convert import convert
from qwen3_reranker.cli.doctor import doctor
from qwen3_reranker.cli.engine import install_engine, uninstall_engine
from qwen3_reranker.cli.evaluate import evaluate, tune
from qwen3_reranker.cli.flags import flags_of, with_flags
from qwen3_reranker.cli.gateway import gateway
from qwen3_reranker.cli.playground import playground
from qwen3_reranker.cli.rerank import rerank
from qwen3_reranker.cli.serve import serve
from qwen3_reranker.errors import RerankerError, RerankerWarning
from qwen3_reranker.version import __version__

__all__ = ["Command", "app", "run"]

_USAGE, _FAILURE, _INTERRUPTED = 2, 3, 130


class Command(TyperCommand):
    """A subcommand that reports a failure as one message, which names options, and an exit code."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        parameter: Any
        for parameter in self.params:
            # The help is rich markup, which would mistake "[no, yes]" for a style.
            if text := getattr(parameter, "help", None):
                parameter.help = text.replace("[", r"\[")

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand; print the package's errors and warnings as messages."""
        flags = flags_of(ctx)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _showing(warnings.showwarning, flags)
                try:
                    return super().invoke(ctx)
                finally:
                    sys.stdout.flush()
        except BrokenPipeError:
            end_closed_pipe()
        except RerankerError as error:
            say(f"error: {with_flags(str(error), flags)}", "red")
            # Errors about arguments are ValueErrors too.
            raise typer.Exit(_USAGE if isinstance(error, ValueError) else _FAILURE) from None
        except KeyboardInterrupt:
            _end_interrupted()


app = typer.Typer(
    help="Rerank documents with Qwen3 rerankers, and evaluate, convert, serve and diagnose such "
    "models.",
    epilog="Exit codes: 0 success; 1 doctor found a problem, convert --verify a difference, or "
    "bulk bad rows; 2 wrong usage; 3 failure; 130 interrupted by Ctrl-C; 141 output was closed.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for _command in (
    rerank,
    bulk,
    evaluate,
    tune,
    convert,
    serve,
    gateway,
    playground,
    doctor,
    bench,
    install_engine,
    uninstall_engine,
):
    app.command(cls=Command)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"qwen3-reranker {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[  # its callback does the work
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None: ...


def run() -> None:
    """Run the command; every failure ends with a message and one of the exit codes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Redirected output on Windows has a code page, which lacks most characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt:
        _end_interrupted()
    except OSError as error:
        say(f"error: {error}", "red")
        sys.exit(_FAILURE)
    except Exception:  # noqa: BLE001  # Python would exit with 1, which means a finding here
        say(traceback.format_exc(), "red")
        sys.exit(_FAILURE)


def _showing(default: Callable[..., None], flags: Mapping[str, str]) -> Callable[..., None]:
    """Return a `showwarning` that prints the package's own warnings as messages."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, RerankerWarning):
            say(f"warning: {with_flags(str(message), flags)}", "yellow")
        else:
            default(message, category, *where)

    return show


def _end_interrupted() -> NoReturn:
    """
    End the process at once, with exit code 130.

    An orderly exit would wait for threads, one of which may be starting an engine, and would
    report abandoned tasks. Engine processes and their files are removed first.
    """
    say("interrupted")
    # Without this module loaded, no engine can have been started.
    client = sys.modules.get("qwen3_reranker.embedded.client")
    if client is not None:
        client.kill_all()
    sys.stdout.flush()
    os._exit(_INTERRUPTED)
