"""A model and the backend that scores with it: started on demand, and restarted after a crash."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from qwen3_reranker.embedded.client import EngineClient
from qwen3_reranker.embedded.devices import cores_of, on_cpu
from qwen3_reranker.embedded.engine_args import (
    engine_arguments,
    engine_variables,
    one_token_more,
)
from qwen3_reranker.embedded.engine_settings import EngineModel, EngineSettings
from qwen3_reranker.embedded.failures import Failures
from qwen3_reranker.embedded.interpreter import find_engine_python
from qwen3_reranker.embedded.progress import Announcement, OnStage
from qwen3_reranker.embedded.releases import check_version
from qwen3_reranker.embedded.transformers_client import TransformersClient
from qwen3_reranker.errors import CheckpointError, ClosedError, EngineError, ForkError, InputError
from qwen3_reranker.model.probe import PROBES, Outcome
from qwen3_reranker.usage import Stopwatch

__all__ = ["Engine", "Running"]

_logger = logging.getLogger(__name__)


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
        running: The backend, if one is ready. It may have ended since, see `live`.
        outstanding: The number of tokens that have been sent to the backend and not been scored.
        failures: The failures of the backend: its starts that failed, and its unexpected ends.
        restarts: How often a backend was started in the place of one that had ended.
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
        self._has_run = False
        self.outstanding = 0
        self.failures = Failures()
        self.restarts = 0

    @property
    def live(self) -> Running | None:
        """The backend, if one is ready to score and has not ended."""
        running = self.running
        return running if running is not None and running.client.reason is None else None

    def check(self) -> None:
        """
        Raise unless the engine can be used.

        Raises:
            ClosedError: The engine was closed.
            ForkError: The engine belongs to the parent of this process.
        """
        if self.pid not in (None, os.getpid()):
            raise ForkError(
                f"this reranker's engine belongs to process {self.pid}, and this is its fork "
                f"{os.getpid()}: make the Reranker in the child, or start it with spawn"
            )
        if self._closed:
            raise ClosedError("the reranker's engine is closed: make a new Reranker")

    def model(self) -> EngineModel:
        """
        Return the model of the running backend, or read it from its files.

        Raises:
            CheckpointError: It is not a Qwen3 reranker.
        """
        if (live := self.live) is not None:
            return live.model
        if self._model is None:
            self._model = EngineModel.read(self.settings)
        return self._model

    async def amodel(self) -> EngineModel:
        """
        Return the model of the running backend, or read it from its files in a thread.

        Raises:
            CheckpointError: It is not a Qwen3 reranker.
        """
        if self.live is None and self._model is None:
            return await asyncio.to_thread(self.model)
        return self.model()

    async def fingerprint(self) -> str:
        """
        Return the fingerprint of the files that the engine has loaded, or would load now.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
        """
        if self.live is None:
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
        self.check()
        if (live := self.live) is not None:
            return live
        starting = self._begin(quiet=quiet)
        if on_stage is not None:
            self._announcement.listeners.append(on_stage)
        self._waiting += 1
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.check()  # it may have been closed in the meantime
            raise
        finally:
            self._waiting -= 1

    def restart(self, model: EngineModel) -> None:
        """
        Start the backend in the background, unless it has failed repeatedly.

        Args:
            model: The model that the other engines of a group have loaded. If its files have
                changed since, the start fails.
        """
        self.check()
        with suppress(EngineError):
            self._begin(quiet=True, expected=model)

    @contextmanager
    def scoring(self, running: Running, tokens: int) -> Iterator[None]:
        """
        Return a context manager for a request to the backend, which counts its tokens and failures.

        If the backend has ended, it is discarded, so that the next call starts another one.

        Args:
            running: The backend that `start()` returned.
            tokens: The number of tokens of the request.

        Raises:
            ClosedError: The request failed because the engine was closed.
            ForkError: The engine belongs to the parent of this process.
        """
        self.outstanding += tokens
        try:
            yield
        except EngineError as error:
            self.check()
            if running.client.reason is not None and self.running is running:
                self.running = None
                self.failures.add(str(error))
            raise
        finally:
            self.outstanding -= tokens
        self.failures.end_row()

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

    def _begin(self, *, quiet: bool, expected: EngineModel | None = None) -> asyncio.Task[Running]:
        """Return the task of the start that is under way; begin one if there is none."""
        if self._starting is None or self._starting.done():
            self.failures.check()
            self.pid = os.getpid()
            self._announcement = Announcement(self.settings.model, quiet=quiet)
            self._starting = asyncio.create_task(self._start(self._announcement, expected))
            # Retrieve its error, because there may be no caller left to do so.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._starting

    async def _start(self, announcement: Announcement, expected: EngineModel | None) -> Running:
        previous, self.running = self.running, None
        if previous is not None:  # it ended while it was idle
            self.failures.add(previous.client.reason or "")
        if self._rejected[0]:
            model = self._model = await asyncio.to_thread(EngineModel.read, self.settings)
            if model.fingerprint == self._rejected[0]:
                raise CheckpointError(self._rejected[1])
        watch = Stopwatch()
        backend = self.settings.backend.replace("vllm", "vLLM")
        name = self.settings.model
        _logger.info("starting %s for %s", backend, name)
        client: EngineClient | TransformersClient | None = None
        try:
            client = self._client(announcement)
            # Meanwhile the process imports vLLM.
            model = self._model = await asyncio.to_thread(EngineModel.read, self.settings)
            self.running = await self._make(client, model, expected)
        except BaseException as error:
            announcement.end(ready=False)
            if client is not None:
                await asyncio.shield(client.aclose())
            if isinstance(error, Exception):
                reason = str(error).partition("\n")[0]
                _logger.warning("%s did not start for %s: %s", backend, name, reason)
                # Whatever the reason, such a start must not be repeated at every call.
                self.failures.add(str(error))
            raise
        announcement.end(ready=True)
        self.restarts += self._has_run
        self._has_run = True
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
            devices=settings.devices,
            timeout=settings.timeout,
            on_log=announcement.log,
            token=settings.user_args.get("hf_token"),
        )
        announcement.begin(client.log, eager=settings.user_args.get("enforce_eager"))
        return client

    async def _make(
        self,
        client: EngineClient | TransformersClient,
        model: EngineModel,
        expected: EngineModel | None,
    ) -> Running:
        """Load the model, and check that it is the one expected and scores as a reranker."""
        settings = self.settings
        if expected is not None and model.state != expected.state:
            raise EngineError(
                f"the files of {settings.model} have changed since other engines loaded them: "
                "close all rerankers that use the model, and make new ones"
            )
        probe = _probe_prompts(model) if settings.check else []
        if isinstance(client, TransformersClient):
            description = await client.load(model.checkpoint, model.prompts)
        else:
            description = await self._start_vllm(client, model)
        revision = settings.user_args.get("revision")
        if await asyncio.to_thread(model.checkpoint.state, revision) != model.state:
            raise EngineError(f"the files of {settings.model} changed while they were loaded")
        if probe:
            await self._probe(client, model, probe)
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
        cpu = hello["device"] == "cpu"
        if settings.devices and on_cpu(settings.devices) != cpu:
            have, need = ("CPU", "cores, such as 'cpu:0-7'") if cpu else ("GPU", "GPUs, such as 0")
            raise InputError(
                f"devices has {settings.device}, but this vLLM is built for a {have}: give {need}"
            )
        core_sets = [cores_of(device) for device in settings.devices] if cpu else []
        try:
            ready = await client.start(args, engine_variables(cpu=cpu, core_sets=core_sets))
        except EngineError as error:
            raise EngineError(
                f"vLLM {hello['vllm']} did not start for {settings.model}: {error}"
            ) from error
        device = hello["device"]
        if settings.devices:
            device = settings.device if cpu else f"{device} {settings.device}"
        return f"vLLM {hello['vllm']} on {device}, {ready['dtype']}"

    async def _probe(
        self,
        client: EngineClient | TransformersClient,
        model: EngineModel,
        prompts: Sequence[list[int]],
    ) -> None:
        """Raise unless the backend's scores of the probe are those of a reranker."""
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


def _probe_prompts(model: EngineModel) -> list[list[int]]:
    """
    Return the token ids of the probe's prompts.

    Raises:
        InputError: The prompts are longer than `max_length`.
    """
    builder = model.prompts
    pairs = [(query, passage) for query, passages in PROBES for passage in passages]
    longest = max(
        builder.count([builder.head(query) + builder.tail(text) for query, text in pairs])
    )
    if longest > builder.max_length:
        raise InputError(
            f"max_length={builder.max_length} is too short for the check of a new engine, whose "
            f"prompts have up to {longest} tokens: raise max_length, or give check=False"
        )
    return [builder.encode(query, [text])[0].ids for query, text in pairs]
