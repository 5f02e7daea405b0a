"""The part of a reranker that concerns its scorer: its name and state, its start and its end."""

from __future__ import annotations

import unicodedata
from typing import Literal, Self

from qwen3_reranker import event_loop
from qwen3_reranker.closing import ClosesAtExit
from qwen3_reranker.embedded.progress import OnStage, show_stage
from qwen3_reranker.errors import SCORING_FAILURES, ClosedError, OnError
from qwen3_reranker.model.template import check_unicode
from qwen3_reranker.passages.scorer import PassageScorer
from qwen3_reranker.scorer import Scorer
from qwen3_reranker.selection import TokenCounter
from qwen3_reranker.tally import Tally
from qwen3_reranker.usage import Stats

__all__ = ["OwnsScorer"]


class OwnsScorer(ClosesAtExit):
    """The methods of `Reranker` that describe its scorer and its use, start it and close it."""

    _scorer: Scorer
    _tally: Tally
    _closed: bool
    _on_error: OnError
    _counter: TokenCounter | None = None

    @property
    def model(self) -> str:
        """
        The model's name.

        A hub name, the absolute path of a folder, "demo", or the model's name on the server.
        """
        return self._scorer.model

    @property
    def max_length(self) -> int | None:
        """The `max_length` that was given: the maximum number of tokens in a prompt, or None."""
        return self._scorer.max_length

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
        Return what all calls of this reranker cost so far, and what its backends did.

        All numbers only grow, except for the back-off of a server. Another reranker that shares the
        engine has its own. This can be called from any thread and at any time, also after
        `close()`; it waits for nothing.

        Returns:
            A snapshot: the queries, documents, tokens, failures and seconds of the calls that have
            ended, for each server the same with its back-off, and for each embedded engine the same
            with its restarts.
        """
        return self._tally.stats(self._scorer)

    def token_counter(self) -> TokenCounter:
        """
        Return a function that counts the tokens of a text with the model's tokenizer.

        `token_budget` is counted with it unless a `token_counter` is given. Control tokens such as
        `<|im_end|>` count as the ordinary characters that they are in a document. An embedded
        engine is not started. A server is detected if it has not been yet.

        Returns:
            A function from a str to an int, which any thread can call. It raises `InputError` for a
            text that contains a lone surrogate. If the tokenizer cannot be
            had because the server failed, and `on_error="keep_order"` is set, it returns an upper
            bound instead: the number of UTF-8 bytes of the text in NFC.

        Raises:
            InputError: The tokenizer of the server's model is not on this machine.
            ClosedError: The reranker is closed.
            CheckpointError: The embedded model is not a Qwen3 reranker.
            ServerError: The server cannot be reached or detected.
        """
        return event_loop.run(self._token_counter())

    async def atoken_counter(self) -> TokenCounter:
        """
        Return a function that counts the tokens of a text; the async version of `token_counter()`.

        Returns the same function and raises the same errors. Canceling the awaiting task stops a
        detection that it began.
        """
        return await event_loop.arun(self._token_counter())

    def warm_up(self, *, progress: bool | OnStage = False) -> Self:
        """
        Start the engine, or detect the server, so that the first score does not have to wait.

        Args:
            progress: Whether to print the stages of an engine's start on standard error. A function
                is called with the name of each stage instead: "import", "load", "compile", "ready".
                It runs on the package's event loop, so it must not block.

        Returns:
            This reranker.

        Raises:
            EngineError: The engine did not start.
            CheckpointError: The embedded model is not a Qwen3 reranker.
            ServerError: The server cannot be reached or detected.
        """
        event_loop.run(self._start(progress=progress))
        return self

    async def awarm_up(self, *, progress: bool | OnStage = False) -> Self:
        """
        Start the engine, or detect the server; the async version of `warm_up()`.

        `progress` prints the stages of an engine's start, or is called with the name of each of
        them. Returns this reranker, and raises the errors of `warm_up()`. Canceling the awaiting
        task leaves the start to later calls.
        """
        await event_loop.arun(self._start(progress=progress))
        return self

    def close(self) -> None:
        """
        Release the engine, and shut it down if no other reranker uses it.

        Pending calls raise `ClosedError`, except on an engine that another reranker uses, which
        completes them. Returns when everything has been released. Closing again is allowed, and
        waits for nothing. Nor does a `__del__` method wait that the garbage collector runs on one
        of the package's own threads: the release is only scheduled there.
        """
        self._closed = True
        event_loop.close(self._scorer.aclose())

    async def aclose(self) -> None:
        """
        Release the engine, and shut it down if no other reranker uses it.

        The async version of `close()`. Pending calls raise `ClosedError`, except on an engine that
        another reranker uses, which completes them. Returns when everything has been released.
        Closing again is allowed, and waits for nothing.
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

    async def _token_counter(self) -> TokenCounter:
        self._check_open()
        # Kept, so that tokens are also counted while a server does not answer.
        if self._counter is None:
            try:
                builder = await self._scorer.prompt_builder()
            except SCORING_FAILURES:
                if self._on_error == "raise":
                    raise
                return _max_tokens

            def count(text: str) -> int:
                check_unicode("text", text)
                return builder.count([text])[0]

            self._counter = count
        return self._counter

    async def _start(self, *, progress: bool | OnStage) -> None:
        self._check_open()
        on_stage = show_stage if progress is True else progress or None
        await self._scorer.start(on_stage=on_stage)


def _max_tokens(text: str) -> int:
    """
    Return a number that the tokens of a text cannot exceed, for when there is no tokenizer.

    No token is shorter than a byte of the text in NFC, which is what a model's tokenizer reads.
    """
    check_unicode("text", text)
    return len(unicodedata.normalize("NFC", text).encode())
