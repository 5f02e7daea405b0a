"""What is said of an engine that takes its time to start."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["QUIET_VARIABLE", "Announcement", "OnStage", "announce", "show_stage"]

QUIET_VARIABLE = "QWEN3_RERANKER_QUIET"
OnStage = Callable[[str], None]
"""Called with each stage of a start: "import", "load", "compile", "ready"."""

# Seconds after which a start is announced.
_SOON = 2.0
_DOING = {
    "import": "importing vLLM",
    "load": "loading the model",
    "compile": "compiling, or loading what was compiled before",
    "ready": "ready",
}
_logger = logging.getLogger("qwen3_reranker")


class Announcement:
    """
    Tells of one start: its stages to `listeners`, and if it is slow a notice on standard error.

    The notice goes to the logger "qwen3_reranker" (INFO) instead, if the program has configured
    logging.

    Args:
        model: The model's name.
        quiet: Whether to leave the notice out, as the variable QWEN3_RERANKER_QUIET also does.
    """

    def __init__(self, model: str, *, quiet: bool = False) -> None:
        self.listeners: list[OnStage] = []
        self._model = model
        self._quiet = quiet or bool(os.environ.get(QUIET_VARIABLE))
        self._version = ""
        self._stage = ""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, log: Path, *, compiles: bool) -> None:
        """Start the clock of the notice, which names the engine's log file."""
        if not self._quiet:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_SOON, self._announce, log, compiles)

    def log(self, head: Mapping[str, Any]) -> None:
        """Take the head of a log frame."""
        self._version = head.get("vllm") or self._version
        if stage := head.get("stage"):
            self._enter(stage)

    def end(self, *, ready: bool) -> None:
        """Take note that the start is over."""
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
                    # The start goes on: others may wait for it.
                    _logger.exception("the listener for the stages of a start failed")

    def _announce(self, log: Path, compiles: bool) -> None:
        compiling = "the first start compiles for about a minute; " if compiles else ""
        engine = f"vLLM {self._version}".rstrip()  # not known before its interpreter runs
        text = f"starting {engine} for {self._model}; {compiling}its log is {log}"
        announce(text)


def announce(text: str, *, quiet: bool = False) -> None:
    """
    Print a notice on standard error, or log it if the program has configured logging.

    Args:
        text: The notice.
        quiet: Whether to leave it out, as the variable QWEN3_RERANKER_QUIET also does.
    """
    if quiet or os.environ.get(QUIET_VARIABLE):
        return
    if _logger.hasHandlers():
        _logger.info(text)
    elif _logger.getEffectiveLevel() <= logging.WARNING:
        print(text, file=sys.stderr, flush=True)


def show_stage(stage: str) -> None:
    """Print a stage on standard error."""
    print(f"qwen3-reranker: {_DOING.get(stage, stage)}", file=sys.stderr, flush=True)
