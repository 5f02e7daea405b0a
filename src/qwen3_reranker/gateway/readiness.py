"""Whether a gateway can score, which orchestrators ask before they send requests."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

from qwen3_reranker.errors import EngineError, RerankerError, ServerError
from qwen3_reranker.gateway.backend import Backend

__all__ = ["Readiness"]

_logger = logging.getLogger(__name__)

# Seconds between attempts to start with servers that cannot score yet.
_PAUSES = (1.0, 2.0, 5.0)
# Seconds for which a request that was scored shows that others can be, too.
_FRESH = 30.0
# Seconds that scoring one short document may take.
_PATIENCE = 5.0


class Readiness:
    """
    Start a backend in the background, and say whether it can score.

    Servers that cannot score yet are tried again until they can. Any other failure of the start is
    final. Afterwards, a request that was scored in the last 30 seconds shows that scoring works;
    without one, a short document is scored to find out.

    What it says does not reveal anything about the servers, because everyone may ask. The details
    are logged.

    Args:
        backend: What is started.
        on_failure: Called with an error of the start that trying again would not mend.
    """

    def __init__(
        self, backend: Backend, on_failure: Callable[[RerankerError], None] | None = None
    ) -> None:
        self._backend = backend
        self._on_failure = on_failure
        self._start_task: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[str | None] | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._obstacle: str | None = "starting"
        self._logged: str | None = None
        self._scored_at: float | None = None

    @property
    def ready(self) -> bool:
        """Whether requests can be scored, as far as that is known without trying."""
        return self._obstacle is None and self._scored_at is not None

    def begin(self) -> None:
        """Start the backend, unless that has been done."""
        if self._start_task is None:
            self._start_task = asyncio.create_task(self._start())

    async def end(self) -> None:
        """Stop waiting for the backend. Requests can no longer be scored."""
        self._obstacle = "shutting down"
        all_tasks = (self._start_task, self._probe, self._attempt)
        tasks = [task for task in all_tasks if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def note(self, *, scored: bool) -> None:
        """
        Take into account how a request ended.

        Args:
            scored: Whether it was scored, rather than failed for a reason that others share.
        """
        self._scored_at = time.monotonic() if scored else None
        if scored:
            self._logged = None

    async def obstacle(self) -> str | None:
        """Return why requests cannot be scored now; None if they can."""
        probe = self.check()
        return self._obstacle if probe is None else await asyncio.shield(probe)

    def check(self) -> asyncio.Task[str | None] | None:
        """
        Begin to find out whether requests can be scored, unless that is known.

        It is known as long as the backend starts or has failed to start, and for 30 seconds after a
        request was scored. This starts a backend that nobody has started yet.

        Returns:
            The task that scores a short document and returns why that failed; None if there is
            nothing to find out.
        """
        self.begin()
        if self._obstacle is not None or self._is_fresh():
            return None
        if self._probe is None or self._probe.done():  # everyone who asks waits for the same one
            self._probe = asyncio.create_task(self._try())
        return self._probe

    def _is_fresh(self) -> bool:
        return self._scored_at is not None and time.monotonic() - self._scored_at < _FRESH

    async def _try(self) -> str | None:
        """Find out whether requests can be scored; return why not."""
        begun = time.monotonic()
        if self._is_fresh():  # since this was asked for
            return None
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._score())
        # An attempt goes on when it takes too long: if a server hangs, it will try another one.
        done, _ = await asyncio.wait((self._attempt,), timeout=_PATIENCE)
        # A request may have been scored in the meantime.
        if self._scored_at is not None and self._scored_at >= begun:
            return None
        self.note(scored=False)
        return "scoring fails" if done else f"scoring takes more than {_PATIENCE:g} seconds"

    async def _score(self) -> None:
        """Score a short document, which is a new one each time, so that no cache has its score."""
        try:
            await self._backend.default.reranker.ascore("ready?", [f"yes {uuid.uuid4().hex}"])
        except Exception as error:  # noqa: BLE001  # whatever it is, requests would fail, too
            self._log(error)
        else:
            self.note(scored=True)

    async def _start(self) -> None:
        attempt = 0
        while True:
            try:
                await self._backend.start()
            except ServerError as error:
                self._log(error)
                self._obstacle = "the servers behind the gateway cannot score yet"
            except RerankerError as error:
                self._give_up(error)
                return
            except Exception as error:
                _logger.exception("the start failed unexpectedly")
                reason = f"{type(error).__name__}: {error}"
                self._give_up(EngineError(f"the start failed unexpectedly ({reason})"))
                return
            else:
                self.note(scored=True)
                self._obstacle = None
                _logger.info("ready to score with %s", self._backend.model)
                return
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1

    def _give_up(self, error: RerankerError) -> None:
        """End the start because of an error that trying again would not mend."""
        self._obstacle = "the start failed"
        if self._on_failure is None:
            _logger.error("%s: %s", self._obstacle, error)
        else:
            self._on_failure(error)

    def _log(self, error: Exception) -> None:
        """Log why scoring fails, once for each reason in a row."""
        reason = str(error) if isinstance(error, RerankerError) else repr(error)
        if self._logged != reason:
            self._logged = reason
            _logger.warning("cannot score: %s", reason)
