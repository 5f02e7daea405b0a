"""The reranker: texts in, ranked hits out. Both adapters hold one of these."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from qwen3_reranker import event_loop
from qwen3_reranker.caching import ScoreCache
from qwen3_reranker.closing import ClosesAtExit
from qwen3_reranker.errors import SCORING_FAILURES, ClosedError, InputError
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.ranking import Hit, ScoringJob, ranking_within, validate_query
from qwen3_reranker.redaction import conceal
from qwen3_reranker.scorer import Scorer, Scores
from qwen3_reranker.scorer_factory import DEFAULT_MODEL, make_scorer
from qwen3_reranker.streaming import Asked, Begin, ain_order, counted, in_order

if TYPE_CHECKING:  # brings the HTTP client
    from qwen3_reranker.remote.options import ServerOptions

__all__ = ["DEFAULT_MODEL", "Reranker"]

Pair = tuple[str, Sequence[str]]
"""A query with its documents."""


class Reranker(ClosesAtExit):
    """
    Scores documents for a query with a Qwen3 reranker, and ranks them.

    The engine starts at the first score, or with `warm_up()`. Two rerankers with equal settings
    share one engine; the last `close()` stops it. All methods may be called from any thread and
    any event loop at the same time; what runs together is batched together.

    Args:
        model: A hub name, a folder, or "demo" (a small model that this package carries); None
            takes `DEFAULT_MODEL`. With `base_url` the name that the server knows it by; None
            takes what it lists.
        base_url: Score with this server instead of an embedded vLLM: its root, `/v1` or an
            endpoint's full path; or several that serve the same model. What it speaks and who
            writes the template are found out at the first call, see `describe`.
        instruction: What makes a document a good one, in one English sentence; None takes the
            model card's "Given a web search query, retrieve relevant passages that answer the
            query". The card reports 1-5 % from an instruction written for the task.
        max_length: The most tokens of a prompt; longer documents are cut at their end. None
            takes 8192, or the model's limit where that is lower.
        on_error: What `rerank` and its kin do where scoring fails: "raise", or "keep_order",
            which returns the first `top_n` in the order given, unscored, with a warning and the
            reason in each hit's `error`. Wrong arguments raise in any case.
        engine: What the embedded model runs in: "vllm", in a process of its own; "transformers",
            in this process, on CUDA, MPS or the CPU; or "auto": vLLM on Linux, and transformers on
            macOS and Windows, for which vLLM has no wheels.
        engine_args: Arguments of the engine that replace those chosen here; values that JSON can
            hold. For vLLM they are those of its `EngineArgs`; transformers takes `device`,
            `dtype`, `max_num_batched_tokens`, `revision` and `hf_token`.
        engine_python: The Python interpreter whose vLLM is used, such as "/opt/vllm/bin/python";
            that environment need not have this package. None takes the variable
            QWEN3_RERANKER_ENGINE_PYTHON, or else the running interpreter.
        check: Whether an engine that has started is asked two questions with obvious answers, so
            that a model that is not a Qwen3 reranker is refused.
        quiet: Do not announce on standard error an engine that takes longer than two seconds to
            start. The variable QWEN3_RERANKER_QUIET does the same for all; a program that has
            configured logging gets the notice from the logger "qwen3_reranker" (INFO) instead.
        scorer: Compute the scores with this instead.
        cache: Store scores in this: a dict, `cachetools.LRUCache`, `diskcache.Cache` or anything
            else that has `get` and supports item assignment. Rerankers may share one. Entries for
            remote models are keyed by URL, model name and request settings, and are not
            invalidated when the weights behind the name change. Several servers that differ, such as
            in `max_length`, are not cached. A `scorer` needs a `fingerprint`.
        **server: `timeout` in seconds. Without `base_url` it bounds the silence of a busy engine
            process, which is ended when it gives no sign of life for so long (60; at least 1, and
            a start always gets at least 60); an engine that computes gives these signs, so
            `timeout` does not limit a call. With `base_url`, see `ServerOptions`:
            `api_key`, `dialect`, `template`, `tokenizer`, `timeout`, `max_concurrency`,
            `max_retries`, `headers`, `verify`, `proxy`, `http_client`, `on_unsupported`.

    Raises:
        InputError: An argument cannot be used, or is not for what scores here.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        instruction: str | None = None,
        max_length: int | None = None,
        on_error: Literal["raise", "keep_order"] = "raise",
        engine: Literal["auto", "vllm", "transformers"] = "auto",
        engine_args: Mapping[str, Any] | None = None,
        engine_python: str | None = None,
        check: bool = True,
        quiet: bool = False,
        scorer: Scorer | None = None,
        cache: ScoreCache | None = None,
        **server: Unpack[ServerOptions],
    ) -> None:
        # First of all, so that no traceback of what follows shows a key.
        settings = conceal({"engine_args": engine_args, **server})
        del engine_args, server
        if instruction is not None and not isinstance(instruction, str):
            raise InputError(f"instruction={instruction!r}: give a str, or None for the default")
        if on_error not in ("raise", "keep_order"):
            raise InputError(f"on_error={on_error!r}: give 'raise' or 'keep_order'")
        settings |= {"model": model, "base_url": base_url, "max_length": max_length}
        settings |= {"engine": engine, "engine_python": engine_python}
        self._scorer = make_scorer(scorer, cache, check=check, quiet=quiet, **settings)
        self._on_error = on_error
        self._closed = False
        self.instruction = instruction

    @property
    def model(self) -> str:
        """The model: a hub name, a folder's absolute path, "demo", or the name on the server."""
        return self._scorer.model

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """
        Return the documents best first.

        Args:
            query: What is asked.
            documents: The texts. Equal ones are scored once; blank ones come last with 0.0.
            top_n: Keep so many at most; None keeps all.
            instruction: Replaces the reranker's own for this call.
            min_score: Keep those with at least this P(yes); None keeps all.

        Returns:
            Hits with the place in `documents`, the score in [0, 1], the text and whether it was
            cut. Ties keep the input order. An empty list gives an empty list.

        Raises:
            InputError: An argument cannot be used.
            PromptTooLongError: Instruction and query leave no room for a document.
            EngineError: The engine failed; no score is made up.
            ServerError: The server failed, or is none that can be used.
            ScoreError: The answer was not one probability a document.
        """
        finish = ranking_within(top_n, min_score)
        job = self._prepare(query, documents)
        return finish(job, event_loop.run(self._try(query, job, instruction)))

    async def arerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
    ) -> list[Hit]:
        """
        Async version of `rerank()`: return the documents best first.

        Takes the same arguments, returns the same hits and raises the same errors. Cancelling the
        awaiting task takes its requests out of the engine.
        """
        finish = ranking_within(top_n, min_score)
        job = self._prepare(query, documents)
        return finish(job, await event_loop.arun(self._try(query, job, instruction)))

    def score(
        self, query: str, documents: Sequence[str], *, instruction: str | None = None
    ) -> list[float]:
        """Return P(yes) of each document in [0, 1], in input order; blank ones get 0.0."""
        job = self._prepare(query, documents)
        return job.scatter(event_loop.run(self._score(query, job, instruction)).values)

    async def ascore(
        self, query: str, documents: Sequence[str], *, instruction: str | None = None
    ) -> list[float]:
        """
        Async version of `score()`: return P(yes) of each document, in input order.

        Takes the same arguments and raises the same errors. Cancelling the awaiting task takes its
        requests out of the engine.
        """
        job = self._prepare(query, documents)
        scoring = self._score(query, job, instruction)
        return job.scatter((await event_loop.arun(scoring)).values)

    def rerank_iter(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
    ) -> Iterator[list[Hit]]:
        """
        Rerank a stream of (query, documents) pairs concurrently, in order, with bounded memory.

        A result is yielded as soon as it is ready, also while `pairs` is still producing the next
        pair.

        Args:
            pairs: The queries with their documents, requested as needed, up to 2,048 documents
                ahead. An iterable other than a list or tuple is iterated in a thread of its own
                (open an sqlite3 connection that it reads with `check_same_thread=False`).
            top_n: As in `rerank`, for every pair.
            instruction: As in `rerank`, for every pair.
            min_score: As in `rerank`, for every pair.

        Yields:
            One list of hits per pair, in the order of the pairs.

        Raises:
            InputError: A pair cannot be used. Like every error of `rerank` and of `pairs` itself,
                it is raised after the results of the pairs before it; what is being scored then
                is cancelled.
        """
        finish = ranking_within(top_n, min_score)
        return in_order(pairs, self._prepare_pair, self._begin(instruction), finish)

    def arerank_iter(
        self,
        pairs: Iterable[Pair] | AsyncIterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
    ) -> AsyncIterator[list[Hit]]:
        """
        Async version of `rerank_iter()`: same arguments, results and errors.

        `pairs` may also be an async iterable, which is iterated in one task on the caller's loop.
        """
        finish = ranking_within(top_n, min_score)
        return ain_order(pairs, self._prepare_pair, self._begin(instruction), finish)

    def rerank_many(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        progress: bool = False,
    ) -> list[list[Hit]]:
        """
        Rerank many (query, documents) pairs in one pass over the engine; all are checked first.

        Args:
            pairs: The queries with their documents.
            top_n: As in `rerank`, for every pair.
            instruction: As in `rerank`, for every pair.
            min_score: As in `rerank`, for every pair.
            progress: Show a bar that counts documents, on standard error.

        Returns:
            One list of hits a pair, in the order of the pairs.
        """
        ranked = ranking_within(top_n, min_score)
        asked = [self._prepare_pair(pair) for pair in pairs]
        with counted(asked, ranked, shown=progress) as finish:
            return list(in_order(asked, lambda pair: pair, self._begin(instruction), finish))

    async def arerank_many(
        self,
        pairs: Iterable[Pair],
        *,
        top_n: int | None = None,
        instruction: str | None = None,
        min_score: float | None = None,
        progress: bool = False,
    ) -> list[list[Hit]]:
        """
        Async version of `rerank_many()`: return one list of hits per pair, in input order.

        Takes the same arguments and raises the same errors. Cancelling the awaiting task takes its
        requests out of the engine.
        """
        ranked = ranking_within(top_n, min_score)
        asked = [self._prepare_pair(pair) for pair in pairs]
        with counted(asked, ranked, shown=progress) as finish:
            stream = ain_order(asked, lambda pair: pair, self._begin(instruction), finish)
            return [hits async for hits in stream]

    def prompt(self, query: str, document: str, instruction: str | None = None) -> Prompt:
        """Return what is sent for one document: `.text`, `.ids`, `.truncated`. Starts nothing."""
        validate_query(query)
        return self._scorer.prompt(query, document, self._instruction(instruction))

    def describe(self) -> str:
        """
        Describe the active backend.

        For a server this includes the detected dialect, who writes the template, and the result of
        the probe; detection runs if it has not yet. For an embedded engine it includes the
        checkpoint and `max_length`, and whether the engine is running.

        Raises:
            ServerError: The server cannot be reached or detected.
            CheckpointError: The embedded model is not a Qwen3 reranker.
        """
        return event_loop.run(self._scorer.describe())

    async def adescribe(self) -> str:
        """Async version of `describe()`: same text and errors; cancelling ends a detection."""
        return await event_loop.arun(self._scorer.describe())

    def warm_up(self, *, progress: bool = False) -> Self:
        """
        Start the engine, or ask the server, now, so that the first score does not wait.

        Args:
            progress: Print the stages of an engine's start on standard error: import, load,
                compile, ready.
        """
        event_loop.run(self._start(progress=progress))
        return self

    async def awarm_up(self, *, progress: bool = False) -> Self:
        """Async version of `warm_up()`: same argument and errors."""
        await event_loop.arun(self._start(progress=progress))
        return self

    def close(self) -> None:
        """
        Release the engine, and shut it down if no other reranker uses it.

        Pending calls raise `ClosedError`. Closing twice is allowed. Returns when everything is
        released, except in a `__del__` method that the garbage collector runs on one of the
        package's own threads: there the release is only scheduled.
        """
        self._closed = True
        event_loop.close(self._scorer.aclose())

    async def aclose(self) -> None:
        """
        Async version of `close()`: release the engine, and shut it down if no other uses it.

        Pending calls raise `ClosedError`. Closing twice is allowed.
        """
        self._closed = True
        await event_loop.arun(self._scorer.aclose())

    def __repr__(self) -> str:
        # A traceback with local variables shows one whose construction failed, too.
        model = self.model if hasattr(self, "_scorer") else "not constructed"
        return f"{type(self).__name__}({model!r})"

    def _instruction(self, instruction: str | None) -> str | None:
        return self.instruction if instruction is None else instruction

    def _prepare(self, query: str, documents: Sequence[str]) -> ScoringJob:
        validate_query(query)
        self._check_open()
        return ScoringJob(documents)

    def _prepare_pair(self, pair: Pair) -> Asked:
        query, documents = pair
        return query, self._prepare(query, documents)

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

    async def _score(self, query: str, job: ScoringJob, instruction: str | None) -> Scores:
        if not job.texts:  # nothing is started for it
            return Scores([], [])
        return await self._scorer.score(query, job.texts, self._instruction(instruction))

    async def _try(
        self, query: str, job: ScoringJob, instruction: str | None
    ) -> Scores | Exception:
        """Return the scores, or what failed if that shall not be raised."""
        try:
            return await self._score(query, job, instruction)
        except SCORING_FAILURES as error:
            if self._on_error == "raise":
                raise
            return error

    def _begin(self, instruction: str | None) -> Begin:
        return lambda query, job: event_loop.submit(self._try(query, job, instruction))
