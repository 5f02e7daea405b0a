"""Keys for the tests of secrets, and where they must not be seen."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError
from rich.traceback import Traceback

import qwen3_reranker

from support.scripted_server import (
    ScriptedServer,
)

KEY = "sk-5f0e8c1d2b7a"
OTHER = "another-token-91c4"
PACKAGE = str(Path(qwen3_reranker.__file__).parent)


def sent(server: ScriptedServer) -> set[str | None]:
    """Return the Authorization headers of all requests."""
    return {request.headers.get("authorization") for request in server.requests}


# Tracebacks with local variables


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that a report shows beneath it."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def of_the_package(trace: TracebackType | None) -> Iterator[dict[str, Any]]:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
            yield trace.tb_frame.f_locals
        trace = trace.tb_next


def _repr(value: object) -> str:
    """Return a repr, also of an object that is not made yet."""
    try:
        return repr(value)
    except AttributeError:
        return "?"


def assert_unseen(error: BaseException, *secrets: str) -> None:
    """Assert that no report of an error shows a secret: neither its text nor the locals."""
    shown = [*traceback.format_exception(error), repr(error)]
    for one in chain(error):
        for variables in of_the_package(one.__traceback__):
            shown += [f"{name} = {_repr(value)}" for name, value in variables.items()]
        if isinstance(one, ValidationError):  # what a validator raised
            for found in one.errors(include_input=False):
                assert_unseen(found["ctx"]["error"], *secrets)
    # Longer than what rich would cut off by itself.
    extracted = Traceback.extract(
        type(error), error, error.__traceback__,
        show_locals=True, locals_max_length=10**6, locals_max_string=10**6,
    )  # fmt: skip
    for stack in extracted.stacks:
        for frame in stack.frames:
            if frame.filename.startswith(PACKAGE):
                shown += [f"{name} = {node!s}" for name, node in (frame.locals or {}).items()]
    for secret in secrets or (KEY, OTHER):
        assert not [text for text in shown if secret in text]
