"""Report the progress of an engine's start."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "DESCRIPTIONS",
    "NOTICE_DELAY",
    "QUIET_VARIABLE",
    "Announcement",
    "OnStage",
    "announce",
    "show_stage",
]

QUIET_VARIABLE = "QWEN3_RERANKER_QUIET"
OnStage = Callable[[str], None]
"""A function that is called with each stage of a start: "import", "load", "compile", "ready"."""

NOTICE_DELAY = 2.0
"""The number of seconds after which a start is announced."""

DESCRIPTIONS = {
    "import": "importing vLLM",
    "load": "loading the model",
    "compile": "compiling, or loading what was compiled before",
    "ready": "ready",
}
"""What happens in each stage of a start."""

_logger = logging.getLogger("qwen3_reranker")


class Announcement:
    """
    Report the stages of a start to listeners, and print a notice on standard error if it is slow.

    If the program has configured logging, the notice goes to the logger "qwen3_reranker" (INFO)
    instead.

    Args:
        model: The model's name.
        quiet: Whether to suppress the notice. The environment variable QWEN3_RERANKER_QUIET
            suppresses it, too.

    Attributes:
        listeners: Functions that are called with each stage.
    """

    def __init__(self, model: str, *, quiet: bool = False) -> None:
        self.listeners: list[OnStage] = []
        self._model = model
        self._quiet = quiet or bool(os.environ.get(QUIET_VARIABLE))
        self._version = ""
        self._can_compile = False
        self._stage = ""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, log: Path, *, eager: bool | None) -> None:
        """
        Begin to wait for the time at which the notice is due.

        Args:
            log: The engine's log file, which the notice names.
            eager: Whether the user wants the model not to be compiled. None compiles it if the
                engine can.
        """
        if not self._quiet:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(NOTICE_DELAY, self._announce, log, eager)

    def log(self, head: Mapping[str, Any]) -> None:
        """Process the head of a log frame from the engine process."""
        self._version = head.get("vllm") or self._version
        self._can_compile = head.get("can_compile", self._can_compile)
        if stage := head.get("stage"):
            self._enter(stage)

    def end(self, *, ready: bool) -> None:
        """
        Report that the start has ended.

        Args:
            ready: Whether the engine is ready. Otherwise the start has failed.
        """
        if self._timer is not None:
            self._timer.cancel()
        if ready:
            self._enter("ready")

    def _enter(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            for listener in self.listeners:
                try:
                    listener(stage)
                except Exception:
                    # The start goes on, because other callers may wait for it.
                    _logger.exception("the listener for the stages of a start failed")

    def _announce(self, log: Path, eager: bool | None) -> None:
        compiles = self._can_compile if eager is None else not eager
        compiling = "the first start compiles for about a minute; " if compiles else ""
        engine = f"vLLM {self._version}".rstrip()  # unknown until its interpreter runs
        text = f"starting {engine} for {self._model}; {compiling}its log is {log}"
        announce(text)


def announce(text: str, *, quiet: bool = False) -> None:
    """
    Print a notice on standard error, or log it if the program has configured logging.

    Args:
        text: The notice.
        quiet: Whether to suppress it. The environment variable QWEN3_RERANKER_QUIET suppresses it,
            too.
    """
    if quiet or os.environ.get(QUIET_VARIABLE):
        return
    if _is_handled(_logger):
        _logger.info(text)
    elif _logger.getEffectiveLevel() <= logging.WARNING:
        print(text, file=sys.stderr, flush=True)


def _is_handled(logger: logging.Logger | None) -> bool:
    """Return whether the program handles a logger's records: a `NullHandler` does not."""
    while logger is not None:
        if not all(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def show_stage(stage: str) -> None:
    """Print a stage of a start on standard error."""
    print(f"qwen3-reranker: {DESCRIPTIONS.get(stage, stage)}", file=sys.stderr, flush=True)
