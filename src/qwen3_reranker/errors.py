"""
The errors and the warning of the package.

Every message says what went wrong, with the value, and what to do. All errors derive from
`RerankerError`; those about an argument are also a `ValueError`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

__all__ = [
    "SCORING_FAILURES",
    "AnswerError",
    "CheckpointError",
    "ClosedError",
    "DetectionError",
    "EngineError",
    "EventLoopError",
    "ForkError",
    "InputError",
    "MissingDependencyError",
    "OnError",
    "PromptTooLongError",
    "RerankerError",
    "RerankerWarning",
    "ScoreError",
    "ServerError",
    "ServerUnavailableError",
    "UnsupportedFeatureError",
    "UnsupportedVersionError",
    "deferred_warnings",
    "warn_caller",
]


class RerankerError(Exception):
    """The base class of all errors that this package raises on purpose."""


class InputError(RerankerError, ValueError):
    """An argument cannot be used: its type or range is wrong, or it is not Unicode text."""


class PromptTooLongError(InputError):
    """Instruction and query leave no room for a document within `max_length` tokens."""


class CheckpointError(RerankerError, ValueError):
    """The model is not a Qwen3 reranker, judging by its files or by its scores."""


class MissingDependencyError(RerankerError, ImportError):
    """An optional library is not installed. The message names the extra that installs it."""


class UnsupportedVersionError(RerankerError):
    """The installed version of a library is not supported."""


class EngineError(RerankerError):
    """The engine did not start, failed on a request, or crashed."""


class ScoreError(RerankerError):
    """A scorer did not return one probability per document."""


class AnswerError(ScoreError):
    """A server's response does not contain exactly one score per document."""


class ServerError(RerankerError):
    """
    A server refused a request.

    Args:
        message: What happened, including the server's own message.
        status: The HTTP status. None if there was no answer.

    Attributes:
        status: The HTTP status. None if there was no answer.
        software: The `Server` header of the answer. None if there was none.
    """

    software: str | None = None

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[ServerError], tuple[str, int | None], dict[str, Any]]:
        return type(self), (str(self), self.status), vars(self)


class ServerUnavailableError(ServerError):
    """No server answered in time, in spite of retries. The message lists each with the reason."""


class DetectionError(ServerError):
    """The server at a URL does not score as a Qwen3 reranker. The message says what to change."""


class UnsupportedFeatureError(RerankerError):
    """The server cannot fully serve a request, and `on_unsupported="raise"` was set."""


class RerankerWarning(UserWarning):
    """A request could not be fully served, but a result was returned."""


class ClosedError(RerankerError):
    """The reranker was used after it was closed, or was closed while the call was waiting."""


class EventLoopError(RerankerError, RuntimeError):
    """A sync method was called where it would wait forever, as on the package's own threads."""


class ForkError(RerankerError):
    """An engine was used in a fork of the process that started it."""


OnError = Literal["raise", "keep_order"]
"""What the rerank methods do if scoring fails: raise the error, or keep the documents' order."""

SCORING_FAILURES = (EngineError, PromptTooLongError, ScoreError, ServerError)
"""The errors that `on_error="keep_order"` handles. Arguments that cannot be used always raise."""


_deferred: ContextVar[list[str] | None] = ContextVar("qwen3_reranker_warnings", default=None)


@contextmanager
def deferred_warnings() -> Iterator[list[str]]:
    """
    Yield a list that collects the messages of `warn_caller` in the block, instead of issuing them.

    Use it on a worker thread, where nothing leads to the caller.
    """
    messages: list[str] = []
    token = _deferred.set(messages)
    try:
        yield messages
    finally:
        _deferred.reset(token)


def warn_caller(message: str) -> None:
    """Issue a `RerankerWarning` that points to the line outside of the package that called it."""
    if (deferred := _deferred.get()) is not None:
        deferred.append(message)
        return
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("qwen3_reranker."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, RerankerWarning, stacklevel=level)
