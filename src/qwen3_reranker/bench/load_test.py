"""Put a reranker under load."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from qwen3_reranker.bench.results import BenchResult
from qwen3_reranker.bench.samples import Sample
from qwen3_reranker.bench.schedule import Schedule, require_count
from qwen3_reranker.bench.workload import (
    QUERY_TOKENS,
    Request,
    Workload,
    pair_workload,
    random_workload,
    text_workload,
    usable_pairs,
    usable_texts,
)
from qwen3_reranker.errors import EventLoopError, InputError, RerankerError
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.ranking import validate_instruction
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.usage import Usage
from qwen3_reranker.version import __version__

__all__ = ["LoadTest"]

_DOCUMENTS, _TOKENS = 50, 200


class LoadTest:
    """
    Put a reranker under load, and measure its latency and its throughput.

    Each request is one `Reranker.arerank()` with all its documents, so what is measured is what an
    application gets: tokenizing, batching, retries and waiting included.

    With `concurrency` the loop is closed: so many requests are in flight, and the next is sent
    when one ends. This finds the highest throughput. With `rate` the loop is open: requests arrive
    as a Poisson process, whether or not earlier ones have ended. The latency then counts from the
    time that was planned, so that a stall counts for all requests that would have come meanwhile.

    First the engine is started or the server is detected, and a few requests are sent that do not
    count: as many as `concurrency` says or, in an open loop, as arrive in a second (at most 16).
    Their queries are random, and their documents those of the first `pairs` if there are any.

    By default queries and documents are random words, different in every test, so that no prefix
    cache holds them. Pass `texts` or `pairs` to send your own.

    Args:
        reranker: The reranker. It is not closed. Its `max_concurrency` bounds the requests that a
            server gets at a time; more than that wait in the client, and waiting counts.
        concurrency: The number of requests in flight. None, without a `rate`, uses 16.
        rate: The mean number of requests per second, above 0.
        documents: The number of documents per request. None uses 50. Not with `pairs`.
        tokens: The number of tokens in each random document, without the template. None uses 200.
            If the tokenizer is not on this machine, the number of words.
        texts: Texts to draw the documents from, instead of random ones.
        pairs: Queries with their documents, which are sent in order from the first one on, and
            from the beginning again after the last. Blank and repeated documents are sent as an
            application sends them, and are therefore not scored, although they are counted.
        seconds: How long requests are sent; those in flight are then awaited. None uses 60, or no
            limit if `requests` is given.
        requests: How many requests are sent. None for no limit.
        instruction: Replaces the reranker's own instruction. The result records the one that was
            used; None is the default instruction.
        seed: The seed of the arrivals of an open loop, so that tests that are compared have the
            same.

    Raises:
        InputError: An argument cannot be used, or contradicts another.

    Example:
        >>> from qwen3_reranker import Reranker
        >>> from qwen3_reranker.bench import LoadTest
        >>> with Reranker("demo") as reranker:
        ...     test = LoadTest(reranker, concurrency=2, documents=5, tokens=20, requests=10)
        ...     result = test.run()
        >>> result.successful, result.failed, result.total_documents
        (10, 0, 50)
    """

    def __init__(
        self,
        reranker: Reranker,
        *,
        concurrency: int | None = None,
        rate: float | None = None,
        documents: int | None = None,
        tokens: int | None = None,
        texts: Sequence[str] | None = None,
        pairs: Sequence[tuple[str, Sequence[str]]] | None = None,
        seconds: float | None = None,
        requests: int | None = None,
        instruction: str | None = None,
        seed: int = 0,
    ) -> None:
        self._schedule = Schedule.of(
            concurrency=concurrency, rate=rate, seconds=seconds, requests=requests, seed=seed
        )
        require_count("documents", documents)
        require_count("tokens", tokens)
        validate_instruction(instruction)
        if texts is not None and pairs is not None:
            raise InputError("texts and pairs exclude each other: give one of them, or neither")
        if tokens is not None and (texts is not None or pairs is not None):
            raise InputError(f"tokens={tokens}: it applies to random documents, not to your own")
        if documents is not None and pairs is not None:
            raise InputError(f"documents={documents}: each of your pairs has its own documents")
        self._reranker = reranker
        self._instruction = reranker.instruction if instruction is None else instruction
        self._texts = None if texts is None else usable_texts(texts, documents)
        self._pairs = None if pairs is None else usable_pairs(pairs)
        self._documents = documents or min(_DOCUMENTS, len(self._texts or range(_DOCUMENTS)))
        self._tokens = tokens or _TOKENS
        self._environment: dict[str, str] = {}
        self._workload: Workload | None = None
        self._forget()

    def _forget(self) -> None:
        """Begin to measure: forget what was measured before."""
        self._samples: list[Sample] = []
        self._messages: dict[str, str] = {}
        self._sent = self._failed = self._peak = 0
        self._on_progress: Callable[[float, int, int], None] | None = None
        self._ended: float | None = None
        self._cpu_ended = 0.0
        self._cpu_started = time.process_time()
        self._started = time.perf_counter()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the test, with defaults filled in."""
        schedule = self._schedule
        settings: dict[str, Any] = {
            "concurrency": schedule.concurrency,
            "rate": schedule.rate,
            "seconds": schedule.seconds,
            "requests": schedule.requests,
            "seed": None if schedule.rate is None else schedule.seed,
            "instruction": self._instruction,
        }
        if self._pairs is not None:
            return settings | {"pairs": len(self._pairs)}
        settings |= {"documents": self._documents, "query_tokens": QUERY_TOKENS}
        if self._texts is not None:
            return settings | {"texts": len(self._texts)}
        return settings | {"tokens": self._tokens}

    def run(self, *, on_progress: Callable[[float, int, int], None] | None = None) -> BenchResult:
        """
        Run the test.

        Args:
            on_progress: Called after each request with the seconds since the start, and the
                numbers of successful and of failed requests so far.

        Raises:
            EventLoopError: An event loop runs on this thread, as in a notebook: await `arun()`.
            InputError: The documents would be truncated, or there are too few.
            RerankerError: The engine did not start, or the server cannot be used. Once the
                measurement has begun, errors are counted.
            KeyboardInterrupt: The test was interrupted; `result()` returns what was measured.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.arun(on_progress=on_progress))
        raise EventLoopError(
            "run() would block the event loop of this thread: await arun() instead"
        )

    async def arun(
        self, *, on_progress: Callable[[float, int, int], None] | None = None
    ) -> BenchResult:
        """
        Run the test; the async version of `run()`.

        Canceling the awaiting task stops the test; `result()` then returns what was measured.

        Args:
            on_progress: Called after each request with the seconds since the start, and the
                numbers of successful and of failed requests so far.

        Raises:
            RerankerError: An argument or the backend cannot be used, as in `run()`.
        """
        await self._reranker.awarm_up()
        self._environment = await self._describe()
        self._workload = await asyncio.to_thread(self._make_workload)
        await self._warm_up(self._workload)
        self._forget()
        self._on_progress = on_progress
        try:
            if self._schedule.rate is None:
                await self._closed_loop(self._workload)
            else:
                await self._open_loop(self._workload)
        finally:
            self._ended = time.perf_counter()
            self._cpu_ended = time.process_time()
        return self.result()

    def result(self) -> BenchResult:
        """Return what has been measured so far, also while the test runs or if it was stopped."""
        ended, cpu_ended = self._ended, self._cpu_ended
        if ended is None:
            ended, cpu_ended = time.perf_counter(), time.process_time()
        cycle = self._workload and self._workload.cycle
        return BenchResult.of(
            self._samples,
            settings=self.settings,
            environment=self._environment,
            messages=self._messages,
            duration=ended - self._started,
            unfinished=self._sent - len(self._samples),
            max_concurrent_requests=self._peak,
            client_cpu_seconds=cpu_ended - self._cpu_started,
            repetitions=max(1.0, self._sent / cycle) if cycle else 1.0,
        )

    async def _describe(self) -> dict[str, str]:
        return {
            "model": self._reranker.model,
            "backend": await self._reranker.adescribe(),
            "qwen3_reranker": __version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _make_workload(self) -> Workload:
        rng = random.Random()  # noqa: S311  # not for cryptography
        if self._pairs is not None:
            return pair_workload(self._pairs, rng)
        if self._texts is not None:
            return text_workload(self._texts, self._documents, rng)
        return random_workload(self._write_prompt, self._documents, self._tokens, rng)

    def _write_prompt(self, query: str, document: str) -> Prompt:
        return self._reranker.prompt(query, document, self._instruction)

    async def _warm_up(self, workload: Workload) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._schedule.warm_up_requests):
                group.create_task(self._rerank(next(workload.warm_up)))

    async def _closed_loop(self, workload: Workload) -> None:
        async def client() -> None:
            while self._schedule.allows(self._sent, time.perf_counter() - self._started):
                await self._send(next(workload.requests), time.perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(self._schedule.concurrency or 1):
                group.create_task(client())

    async def _open_loop(self, workload: Workload) -> None:
        async with asyncio.TaskGroup() as group:
            for arrival in self._schedule.arrivals():
                planned = self._started + arrival
                await asyncio.sleep(max(0.0, planned - time.perf_counter()))
                group.create_task(self._send(next(workload.requests), planned))

    async def _send(self, request: Request, planned: float) -> None:
        """Send a request, and record how it ended."""
        self._sent += 1
        self._peak = max(self._peak, self._sent - len(self._samples))
        outcome = await self._rerank(request)
        now = time.perf_counter()
        start, latency, documents = planned - self._started, now - planned, len(request[1])
        if isinstance(outcome, Usage):
            # A scorer that does not report its usage has scored nothing, as it seems.
            counted = (outcome.scored or outcome.cached) and not outcome.uncounted
            tokens = outcome.tokens if counted else None
            sample = Sample(start, latency, documents, tokens, outcome.retries)
        else:
            name = type(outcome).__name__
            sample = Sample(start, latency, documents, error=name)
            self._messages.setdefault(name, str(outcome))
            self._failed += 1
        self._samples.append(sample)
        if self._on_progress is not None:
            successful = len(self._samples) - self._failed
            self._on_progress(now - self._started, successful, self._failed)

    async def _rerank(self, request: Request) -> Usage | Exception:
        """Rerank the documents of a request; return what it cost, or the error if it failed."""
        query, documents = request
        try:
            hits = await self._reranker.arerank(query, documents, instruction=self._instruction)
        except Exception as error:  # noqa: BLE001  # also what a scorer of the user's raises
            return error
        # on_error="keep_order" hides failures from applications, but not here.
        reasons = (hit.error for hit in hits if hit.error is not None)
        return next((RerankerError(reason) for reason in reasons), hits.usage)
