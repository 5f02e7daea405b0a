"""The part of a reranker that concerns its scorer: its name and state, its start and its end."""

from __future__ import annotations

from typing import Literal, Self

from qwen3_reranker import event_loop
from qwen3_reranker.closing import ClosesAtExit
from qwen3_reranker.errors import ClosedError
from qwen3_reranker.passages.scorer import PassageScorer
from qwen3_reranker.scorer import Scorer
from qwen3_reranker.usage import Stats, Tally

__all__ = ["OwnsScorer"]


class OwnsScorer(ClosesAtExit):
    """The methods of `Reranker` that describe its scorer and its use, start it and close it."""

    _scorer: Scorer
    _tally: Tally
    _closed: bool

    @property
    def model(self) -> str:
        """
        The model's name.

        A hub name, the absolute path of a folder, "demo", or the model's name on the server.
        """
        return self._scorer.model

    @property
    def long_documents(self) -> Literal["cut", "passages"]:
        """How documents are scored that are too long for one prompt: "cut" or in "passages"."""
        return "passages" if isinstance(self._scorer, PassageScorer) else "cut"

    def describe(self) -> str:
        """
        Describe the active backend, for people to read.

        For a server this includes the detected dialect, who writes the template, and the result of
        the probe; detection runs if it has not yet. For an embedded engine it includes the
        checkpoint and `max_length`, and whether the engine is running.

        Raises:
            ServerError: The server cannot be reached or detected.
            CheckpointError: The embedded model is not a Qwen3 reranker.
        """
        return event_loop.run(self._scorer.describe())

    async def adescribe(self) -> str:
        """
        Describe the active backend, for people to read; the async version of `describe()`.

        Returns the same text and raises the same errors. Canceling the awaiting task stops a
        detection that it began.
        """
        return await event_loop.arun(self._scorer.describe())

    def stats(self) -> Stats:
        """
        Return what all calls of this reranker cost so far, and the state of its servers.

        The numbers only ever grow. Another reranker that shares the engine has its own. This can be
        called from any thread and at any time, also after `close()`; it waits for nothing.

        Returns:
            A snapshot: the queries, documents, tokens, failures and seconds of the calls that have
            ended, and for each server the same with its back-off.
        """
        return self._tally.stats(self._scorer.endpoint_stats())

    def warm_up(self, *, progress: bool = False) -> Self:
        """
        Start the engine, or detect the server, so that the first score does not have to wait.

        Args:
            progress: Whether to print the stages of an engine's start on standard error: import,
                load, compile, ready.

        Returns:
            This reranker.

        Raises:
            EngineError: The engine did not start.
            CheckpointError: The embedded model is not a Qwen3 reranker.
            ServerError: The server cannot be reached or detected.
        """
        event_loop.run(self._start(progress=progress))
        return self

    async def awarm_up(self, *, progress: bool = False) -> Self:
        """
        Start the engine, or detect the server; the async version of `warm_up()`.

        `progress` prints the stages of an engine's start. Returns this reranker, and raises the errors
        of `warm_up()`. Canceling the awaiting task leaves the start to later calls.
        """
        await event_loop.arun(self._start(progress=progress))
        return self

    def close(self) -> None:
        """
        Release the engine, and shut it down if no other reranker uses it.

        Pending calls raise `ClosedError`. Closing twice is allowed. Returns when everything has
        been released, except in a `__del__` method that the garbage collector runs on one of the
        package's own threads, where the release is only scheduled.
        """
        self._closed = True
        event_loop.close(self._scorer.aclose())

    async def aclose(self) -> None:
        """
        Release the engine, and shut it down if no other reranker uses it.

        The async version of `close()`: pending calls raise `ClosedError`, closing twice is
        allowed, and it returns when everything has been released.
        """
        self._closed = True
        await event_loop.arun(self._scorer.aclose())

    def __repr__(self) -> str:
        # A traceback with local variables shows one whose construction failed, too.
        model = self.model if hasattr(self, "_scorer") else "not constructed"
        return f"{type(self).__name__}({model!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self!r} is closed: make a new one")

    async def _start(self, *, progress: bool) -> None:
        self._check_open()
        if not progress:
            await self._scorer.start()
            return
        from qwen3_reranker.embedded.progress import show_stage

        await self._scorer.start(on_stage=show_stage)
