"""Whether a gateway can score, which orchestrators ask before they send requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from qwen3_reranker.errors import RerankerError, ServerError
from qwen3_reranker.gateway.backend import Backend

__all__ = ["Readiness"]

_logger = logging.getLogger(__name__)

# Seconds between attempts to reach servers that do not answer yet.
_PAUSES = (1.0, 2.0, 5.0)


class Readiness:
    """
    Start a backend in the background, and say whether it can score.

    Servers that do not answer yet are tried again until they do. Any other failure is final.

    Args:
        backend: What is started.
        on_failure: Called with an error that trying again would not mend.

    Attributes:
        reason: Why requests cannot be scored now; None if they can.
    """

    def __init__(
        self, backend: Backend, on_failure: Callable[[RerankerError], None] | None = None
    ) -> None:
        self._backend = backend
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None
        self.reason: str | None = "starting"

    def begin(self) -> None:
        """Start the backend, unless that has been done."""
        if self._task is None:
            self._task = asyncio.create_task(self._start())

    async def end(self) -> None:
        """Stop waiting for the backend. Requests can no longer be scored."""
        self.reason = "shutting down"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _start(self) -> None:
        attempt = 0
        while True:
            try:
                await self._backend.start()
            except ServerError as error:
                if self.reason != str(error):
                    _logger.warning("not ready yet: %s", error)
                self.reason = str(error)
            except RerankerError as error:
                _logger.exception("the start failed")
                self.reason = str(error)
                if self._on_failure is not None:
                    self._on_failure(error)
                return
            else:
                self.reason = None
                _logger.info("ready to score with %s", self._backend.model)
                return
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1
