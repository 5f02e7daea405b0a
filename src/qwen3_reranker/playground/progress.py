"""Show what a run of the page is waiting for."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

from qwen3_reranker.embedded.progress import DESCRIPTIONS
from qwen3_reranker.errors import ServerError, ServerUnavailableError
from qwen3_reranker.reranker import Reranker

__all__ = ["Progress"]

# Seconds for which a run waits for a server that is not up yet, and between two attempts.
SERVER_WAIT = 120.0
_ATTEMPT_INTERVAL = 2.0


class Progress:
    """
    What a run is doing.

    Attributes:
        text: What it is doing now, in a sentence.
    """

    def __init__(self) -> None:
        self.text = "Starting"
        self._started = time.monotonic()

    def show(self, text: str) -> None:
        """Say what the run is doing now. Callable from any thread."""
        self.text = text

    @property
    def seconds(self) -> float:
        """The seconds since the run began."""
        return time.monotonic() - self._started

    async def start(self, reranker: Reranker) -> None:
        """
        Start the reranker's engine, or detect its server, and wait for one that is not up yet.

        Raises:
            RerankerError: The engine did not start, or the server did not answer in time.
        """
        self.show(f"Preparing {reranker.model}")
        deadline = time.monotonic() + SERVER_WAIT
        while True:
            try:
                await reranker.awarm_up(progress=self._show_stage)
            except ServerError as error:
                if not _is_starting(error) or time.monotonic() > deadline:
                    raise
                self.show(f"The server is not ready yet, trying again. {error}")
                await asyncio.sleep(_ATTEMPT_INTERVAL)
            else:
                return

    def _show_stage(self, stage: str) -> None:
        self.show(f"Starting the engine: {DESCRIPTIONS.get(stage, stage)}")


def _is_starting(error: ServerError) -> bool:
    """Return whether a server may only not have finished its start."""
    if error.status is None:
        return isinstance(error, ServerUnavailableError)
    return error.status == HTTPStatus.SERVICE_UNAVAILABLE  # while the model is being loaded
