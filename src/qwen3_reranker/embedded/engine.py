"""The engines that rerankers share: started on demand, restarted after a crash, ended together."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass

from qwen3_reranker import event_loop
from qwen3_reranker.backoff import backoff
from qwen3_reranker.embedded.client import EngineClient
from qwen3_reranker.embedded.engine_args import (
    engine_arguments,
    engine_variables,
    one_token_more,
)
from qwen3_reranker.embedded.engine_settings import EngineModel, EngineSettings
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.embedded.progress import Announcement, OnStage
from qwen3_reranker.embedded.releases import check_version
from qwen3_reranker.embedded.transformers_client import TransformersClient
from qwen3_reranker.errors import CheckpointError, ClosedError, EngineError, ForkError
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.redaction import reveal_token
from qwen3_reranker.usage import Stopwatch

__all__ = ["Engine", "Running", "acquire", "release"]

_logger = logging.getLogger(__name__)

# After the third failure in a row, and after each one that follows, calls fail at once for a while.
# The pause is given in seconds, and doubles each time.
_TOLERATED_FAILURES = 2
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0


@dataclass(frozen=True, slots=True)
class Running:
    """
    A backend that is ready to score.

    Attributes:
        client: The backend.
        model: The model that it has loaded.
        description: The backend's name, device and dtype, for people to read.
    """

    client: EngineClient | TransformersClient
    model: EngineModel
    description: str


class Engine:
    """
    A model and the backend that scores with it. Its coroutines run on the package's event loop.

    Args:
        settings: What to run, and how.

    Attributes:
        settings: The same settings.
        users: The tokens of those that use the engine, managed by `acquire` and `release`.
        running: The backend, if one is ready.
        pid: The id of the process that started the engine. None before the first start.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.users: set[object] = set()
        self.running: Running | None = None
        self._model: EngineModel | None = None
        self.pid: int | None = None
        self._starting: asyncio.Task[Running] | None = None
        # Canceled starts whose processes have not ended yet.
        self._abandoned: set[asyncio.Task[Running]] = set()
        self._announcement = Announcement("")
        self._waiting = 0
        self._closed = False
        # The fingerprint of files that failed the check, and the error.
        self._rejected = ("", "")
        self._failures = 0
        self._failed_at = 0.0
        self._last_failure = ""

    def model(self) -> EngineModel:
        """
        Return the model of the running backend, or read it from its files.

        Raises:
            CheckpointError: It is not a Qwen3 reranker.
        """
        if self.running is not None:
            return self.running.model
        if self._model is None:
            self._model = EngineModel.read(self.settings)
        return self._model

    async def amodel(self) -> EngineModel:
        """
        Return the model of the running backend, or read it from its files in a thread.

        Raises:
            CheckpointError: It is not a Qwen3 reranker.
        """
        if self.running is None and self._model is None:
            return await asyncio.to_thread(self.model)
        return self.model()

    async def fingerprint(self) -> str:
        """
        Return the fingerprint of the files that the engine has loaded, or would load now.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
        """
        if self.running is None:
            self._model = await asyncio.to_thread(EngineModel.read, self.settings)
        return (await self.amodel()).fingerprint

    async def start(self, *, quiet: bool = False, on_stage: OnStage | None = None) -> Running:
        """
        Return the running backend; start it if there is none.

        Concurrent callers share one start. It goes on for the others, and for later callers, if a
        caller is canceled.

        Args:
            quiet: Whether to suppress the notice of a start that this call begins.
            on_stage: Called with each stage of the start.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
            ClosedError: The engine was closed.
            ForkError: The engine belongs to the parent of this process.
            EngineError: The engine did not start, or has failed repeatedly.
        """
        self._check()
        if self.running is not None and self.running.client.reason is None:
            return self.running
        if self._starting is None or self._starting.done():
            self._check_failures()
            self.pid = os.getpid()
            self._announcement = Announcement(self.settings.model, quiet=quiet)
            self._starting = asyncio.create_task(self._start(self._announcement))
            # Retrieve its error, because there may be no caller left to do so.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        if on_stage is not None:
            self._announcement.listeners.append(on_stage)
        self._waiting += 1
        try:
            return await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            self._check()  # it may have been closed in the meantime
            raise
        finally:
            self._waiting -= 1

    def record_success(self) -> None:
        """Reset the count of failures in a row, because the engine has scored."""
        self._failures = 0

    def record_failure(self, running: Running, error: EngineError) -> None:
        """
        Discard a backend that has ended, so that the next call starts another one.

        Args:
            running: The backend that a call has used.
            error: The call's error.

        Raises:
            ClosedError: The call failed because the engine was closed.
            ForkError: The engine belongs to the parent of this process.
        """
        self._check()
        if running.client.reason is not None and self.running is running:
            self.running = None
            self._count_failure(str(error))

    def abandon_start(self) -> None:
        """Cancel a start that no caller waits for."""
        if self._starting is not None and not self._waiting:
            starting, self._starting = self._starting, None
            if not starting.done():
                self._abandoned.add(starting)
                starting.add_done_callback(self._abandoned.discard)
                starting.cancel()

    async def aclose(self) -> None:
        """End the backend, and wait until it has ended. Pending calls raise `ClosedError`."""
        self._closed = True
        if self.pid != os.getpid():
            return
        starts = set(self._abandoned)
        if self._starting is not None:
            self._starting.cancel()
            starts.add(self._starting)
        if starts:
            await asyncio.wait(starts)
        running, self.running = self.running, None
        if running is not None:
            await running.client.aclose()
            _logger.info("stopped %s for %s", running.description, self.settings.model)

    def _check(self) -> None:
        if self.pid not in (None, os.getpid()):
            raise ForkError(
                f"this reranker's engine belongs to process {self.pid}, and this is its fork "
                f"{os.getpid()}: make the Reranker in the child, or start it with spawn"
            )
        if self._closed:
            raise ClosedError("the reranker's engine is closed: make a new Reranker")

    def _check_failures(self) -> None:
        """Raise the last error again, for a while after the engine has failed repeatedly."""
        if self._failures <= _TOLERATED_FAILURES:
            return
        failures = self._failures - _TOLERATED_FAILURES
        pause = backoff(failures, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        left = self._failed_at + pause - time.monotonic()
        if left > 0:
            raise EngineError(
                f"the engine failed {self._failures} times in a row, and is not started again for "
                f"{left:.0f} s. The last time: {self._last_failure}"
            )

    def _count_failure(self, words: str) -> None:
        self._failures += 1
        self._failed_at = time.monotonic()
        self._last_failure = words

    async def _start(self, announcement: Announcement) -> Running:
        previous, self.running = self.running, None
        if previous is not None:  # it ended while it was idle
            self._count_failure(previous.client.reason or "")
        if self._rejected[0]:
            model = self._model = await asyncio.to_thread(EngineModel.read, self.settings)
            if model.fingerprint == self._rejected[0]:
                raise CheckpointError(self._rejected[1])
        watch = Stopwatch()
        backend = self.settings.backend.replace("vllm", "vLLM")
        name = self.settings.model
        _logger.info("starting %s for %s", backend, name)
        client = self._client(announcement)
        try:
            # Meanwhile the process imports vLLM.
            model = self._model = await asyncio.to_thread(EngineModel.read, self.settings)
            self.running = await self._make(client, model)
        except BaseException as error:
            announcement.end(ready=False)
            await asyncio.shield(client.aclose())
            if isinstance(error, Exception):
                reason = str(error).partition("\n")[0]
                _logger.warning("%s did not start for %s: %s", backend, name, reason)
            if isinstance(error, EngineError):
                self._count_failure(str(error))
            raise
        announcement.end(ready=True)
        description = self.running.description
        _logger.info("started %s for %s in %.1f s", description, name, watch.lap())
        return self.running

    def _client(self, announcement: Announcement) -> EngineClient | TransformersClient:
        settings = self.settings
        if settings.backend == "transformers":
            announcement.log({"stage": "load"})
            return TransformersClient(settings.user_args)
        client = EngineClient(
            find_engine_python(settings.python),
            timeout=settings.timeout,
            on_log=announcement.log,
            token=settings.user_args.get("hf_token"),
        )
        announcement.begin(client.log, eager=settings.user_args.get("enforce_eager"))
        return client

    async def _make(self, client: EngineClient | TransformersClient, model: EngineModel) -> Running:
        """Load the model, and check that it scores as a reranker."""
        settings = self.settings
        if isinstance(client, TransformersClient):
            description = await client.load(model.checkpoint, model.prompts)
        else:
            description = await self._start_vllm(client, model)
        revision = settings.user_args.get("revision")
        if await asyncio.to_thread(model.checkpoint.state, revision) != model.state:
            raise EngineError(f"the files of {settings.model} changed while they were loaded")
        if settings.check:
            await self._probe(client, model)
        return Running(client, model, description)

    async def _start_vllm(self, client: EngineClient, model: EngineModel) -> str:
        """Make vLLM's engine in the process, and return its description."""
        settings = self.settings
        hello = await client.hello()
        check_version(hello["vllm"])
        args = engine_arguments(
            model.checkpoint,
            model.prompts.max_length,
            settings.user_args,
            device_memory=hello["memory"],
            can_compile=hello["can_compile"],
        )
        args |= one_token_more(model.checkpoint, args, settings.user_args)
        try:
            ready = await client.start(
                reveal_token(args), engine_variables(cpu=hello["device"] == "cpu")
            )
        except EngineError as error:
            raise EngineError(
                f"vLLM {hello['vllm']} did not start for {settings.model}: {error}"
            ) from error
        return f"vLLM {hello['vllm']} on {hello['device']}, {ready['dtype']}"

    async def _probe(self, client: EngineClient | TransformersClient, model: EngineModel) -> None:
        prompts = [
            prompt.ids
            for query, passages in PROBES
            for prompt in model.prompts.encode(query, passages)
        ]
        logits = [model.logit(row) for row in await client.encode(prompts)]
        rows = [logits[start : start + 3] for start in range(0, len(logits), 3)]
        outcome = Outcome.read(rows, None, logits=True)
        if not outcome.passed:
            message = (
                f"{self.settings.model} does not score as a Qwen3 reranker: two questions with an "
                f"obvious answer and two unrelated passages each got {outcome}. Give check=False "
                "to use it nevertheless"
            )
            self._rejected = (model.fingerprint, message)
            raise CheckpointError(message)


def acquire(settings: EngineSettings, user: object) -> Engine:
    """
    Return the engine with these settings; make it if there is none.

    Args:
        settings: The engine's settings.
        user: A token that identifies the user. Call `release` with it.
    """
    with event_loop.critical():
        while True:
            engine = _engines.get(settings.key)
            if engine is None:
                engine = _engines[settings.key] = Engine(settings)
            engine.users.add(user)
            # The garbage collector may just have released its last user.
            if _engines.get(settings.key) is engine:
                return engine


def release(engine: Engine, user: object) -> Future[None] | None:
    """
    Remove a user of an engine, and end the engine if it was the last one.

    Returns:
        A future that waits for the engine's end. None if it has other users, or no end to wait for.
    """
    with event_loop.critical():
        if user not in engine.users:
            return None
        engine.users.discard(user)
        if engine.users:
            return None
        if _engines.get(engine.settings.key) is engine:
            del _engines[engine.settings.key]
    # While the interpreter shuts down, the process has been killed and the event loop has stopped.
    return None if sys.is_finalizing() else event_loop.submit(engine.aclose())


def active_engines() -> list[Engine]:
    """Return the engines that have users, whether or not their processes run."""
    return list(_engines.values())


async def _abandon_starts() -> None:
    """Cancel the starts that only calls interrupted by the user waited for."""
    await asyncio.sleep(0.1)  # until these calls have been canceled
    for engine in active_engines():
        engine.abandon_start()


def _after_fork() -> None:
    """In a forked child, forget the engines whose processes belong to the parent."""
    for key, engine in list(_engines.items()):
        if engine.pid is not None:
            del _engines[key]


_engines: dict[str, Engine] = {}
event_loop.on_interrupt.append(_abandon_starts)
event_loop.after_fork(_after_fork)
