"""
The errors of the package.

Every error says what went wrong, with the value, and what to do. All derive from
`RerankerError`; those about an argument are a `ValueError` too.
"""

from __future__ import annotations

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
    "PromptTooLongError",
    "RerankerError",
    "RerankerWarning",
    "ScoreError",
    "ServerError",
    "ServerUnavailableError",
    "UnsupportedFeatureError",
    "UnsupportedVersionError",
]


class RerankerError(Exception):
    """Base class: catch it to catch whatever this package raises on purpose."""


class InputError(RerankerError, ValueError):
    """An argument cannot be used: a wrong type, an impossible number, text that is not Unicode."""


class PromptTooLongError(InputError):
    """Instruction and query leave no room for a document within `max_length` tokens."""


class CheckpointError(RerankerError, ValueError):
    """The model is not a Qwen3 reranker that can be used, by its files or by how it scores."""


class MissingDependencyError(RerankerError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class UnsupportedVersionError(RerankerError):
    """The installed library's version is not one that this package has been run with."""


class EngineError(RerankerError):
    """The engine failed: at start, on a request, or by dying while it ran."""


class ScoreError(RerankerError):
    """A scorer answered with something that is not one probability a document."""


class AnswerError(ScoreError):
    """A server answered with something that is not one number a document, each with its index."""


class ServerError(RerankerError):
    """
    A server refused a request, with its own message.

    Attributes:
        status: The HTTP status; None where there was no answer.
        software: The answer's `Server` header, if there was one.
    """

    software: str | None = None

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[ServerError], tuple[str, int | None]]:
        return type(self), (str(self), self.status)


class ServerUnavailableError(ServerError):
    """No server answered in time, after all retries; the message names each with its reason."""


class DetectionError(ServerError):
    """What is served at a URL does not score as a Qwen3 reranker; says what to change there."""


class UnsupportedFeatureError(RerankerError):
    """Something was asked for that the server cannot do, and `on_unsupported="raise"` was set."""


class RerankerWarning(UserWarning):
    """Something was asked for and could not be done, but a result was returned."""


class ClosedError(RerankerError):
    """The reranker was used after `close()`, or closed while the call was waiting."""


class EventLoopError(RerankerError, RuntimeError):
    """A sync method was called where it would wait forever, such as on the package's own threads."""


class ForkError(RerankerError):
    """An engine was used in a forked child of the process that started it."""


SCORING_FAILURES = (EngineError, PromptTooLongError, ScoreError, ServerError)
"""The errors after which `on_error="keep_order"` keeps the order; wrong arguments always raise."""
