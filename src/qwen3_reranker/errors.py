"""
The errors of the package.

Every error says what went wrong, with the value, and what to do. All derive from
`RerankerError`; those about an argument are a `ValueError` too.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ClosedError",
    "EngineError",
    "ForkError",
    "InputError",
    "MissingDependencyError",
    "PromptTooLongError",
    "RerankerError",
    "ScoreError",
    "UnsupportedVersionError",
]


class RerankerError(Exception):
    """Base class: catch it to catch whatever this package raises on purpose."""


class InputError(RerankerError, ValueError):
    """An argument cannot be used: a wrong type, an impossible number, text that is not Unicode."""


class PromptTooLongError(InputError):
    """Instruction and query leave no room for a document within `max_length` tokens."""


class CheckpointError(RerankerError, ValueError):
    """The model is not a Qwen3 reranker that can be loaded; raised before any engine starts."""


class MissingDependencyError(RerankerError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class UnsupportedVersionError(RerankerError):
    """The installed library's version is not one that this package has been run with."""


class EngineError(RerankerError):
    """The engine failed: at start, on a request, or by dying while it ran."""


class ScoreError(RerankerError):
    """A scorer answered with something that is not one probability a document."""


class ClosedError(RerankerError):
    """The reranker was used after `close()`, or closed while the call was waiting."""


class ForkError(RerankerError):
    """An engine was used in a forked child of the process that started it."""
