"""Say on the page what a run is doing, and why it failed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from qwen3_reranker.errors import (
    CheckpointError,
    ClosedError,
    DetectionError,
    EngineError,
    InputError,
    MissingDependencyError,
    RerankerError,
    ServerError,
    ServerUnavailableError,
)
from qwen3_reranker.markup import Html, tag

__all__ = ["error_html", "notice_html", "progress_html"]

_logger = logging.getLogger(__name__)

_KEY_STATUSES = (401, 403)
# The first class that fits decides.
_HEADINGS: tuple[tuple[type[RerankerError], str], ...] = (
    (MissingDependencyError, "The engine is not installed"),
    (CheckpointError, "This model cannot be used"),
    (InputError, "An input cannot be used"),
    (ServerUnavailableError, "The server does not answer"),
    (DetectionError, "The server does not score as a Qwen3 reranker does"),
    (ServerError, "The server refused the request"),
    (ClosedError, "The reranker is closed"),
    (EngineError, "The engine failed"),
    (RerankerError, "Ranking failed"),
)


def error_html(
    error: Exception, *, kept: bool = False, explain: Callable[[str], str] = str
) -> Html:
    """
    Return a message about an error. One that is not the package's own is logged with its trace.

    Args:
        error: The error.
        kept: Whether the page still shows an earlier result.
        explain: Changes the error's message for those who see the page.
    """
    heading = next((text for kind, text in _HEADINGS if isinstance(error, kind)), None)
    if heading is None:
        _logger.error("the playground failed", exc_info=error)
        heading = "The page itself failed: this is a defect"
    if isinstance(error, ServerError) and error.status in _KEY_STATUSES:
        heading = "The server requires another API key"
    text = explain(str(error)) or type(error).__name__
    parts = [tag("strong", heading), tag("p", text[:1].upper() + text[1:])]
    if kept:
        parts.append(tag("p", "Your inputs and the last result are still here.", class_="kept"))
    return tag("div", *parts, class_="message error", role="alert")


def progress_html(text: str, seconds: float) -> Html:
    """Return what a run is doing, and for how long."""
    return tag(
        "div",
        tag("span", class_="spinner", aria_hidden="true"),
        tag("span", text),
        tag("span", f"{seconds:.0f} s", class_="seconds", aria_hidden="true"),
        class_="message progress",
        role="status",
    )


def notice_html(*content: str) -> Html:
    """Return a message that something was done."""
    return tag("div", *content, class_="message notice", role="status")
