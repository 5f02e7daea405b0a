"""The engines of one reranker, one per device: the least busy one scores the next prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from qwen3_reranker import event_loop
from qwen3_reranker.embedded.engine import Engine, Running
from qwen3_reranker.embedded.engine_registry import acquire, release
from qwen3_reranker.embedded.engine_settings import EngineModel, EngineSettings
from qwen3_reranker.embedded.progress import OnStage
from qwen3_reranker.errors import EngineError
from qwen3_reranker.usage import EngineStats, Stopwatch

__all__ = ["EngineGroup"]


class EngineGroup:
    """
    Engines that score with the same model. Its coroutines run on the package's event loop.

    When an engine ends unexpectedly, the others take over its prompts, and it is started again in
    the background. Prompts that were in two engines when they ended are not tried a third time,
    because they may be the cause.

    Args:
        settings: The settings of each engine, which differ in their devices. At least one.

    Attributes:
        engines: The engines. Other rerankers may use them, too.
    """

    def __init__(self, settings: Sequence[EngineSettings]) -> None:
        self._user = object()
        self.engines = [acquire(one, self._user) for one in settings]
        self._work = {engine: EngineStats() for engine in self.engines}
        self._complete = False

    @property
    def settings(self) -> EngineSettings:
        """The settings of the first engine, which are those of all except for the device."""
        return self.engines[0].settings

    def stats(self) -> dict[str, EngineStats]:
        """Return what each engine did for this reranker, by device. Callable from any thread."""
        return {
            engine.settings.device: replace(
                work, failures=engine.failures.total, restarts=engine.restarts
            )
            for engine, work in self._work.items()
        }

    def describe(self) -> str:
        """Describe the engines, and say whether they are running."""
        states = [
            f"{self.settings.backend}, not {'running' if self._complete else 'started'}"
            if (live := engine.live) is None
            else live.description
            for engine in self.engines
        ]
        if len(states) == 1:
            return states[0]
        devices = [engine.settings.device for engine in self.engines]
        shown = (f"{device} ({state})" for device, state in zip(devices, states, strict=True))
        return f"on {len(states)} devices: {', '.join(shown)}"

    def model(self) -> EngineModel:
        """
        Return the model of a running engine, or read it from its files.

        Raises:
            CheckpointError: It is not a Qwen3 reranker.
        """
        return self._first().model()

    async def amodel(self) -> EngineModel:
        """
        Return the model of a running engine, or read it from its files in a thread.

        Raises:
            CheckpointError: It is not a Qwen3 reranker.
        """
        return await self._first().amodel()

    async def fingerprint(self) -> str:
        """
        Return the fingerprint of the files that the engines have loaded, or would load now.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
        """
        return await self._first().fingerprint()

    async def start(self, *, quiet: bool = False, on_stage: OnStage | None = None) -> None:
        """
        Start the engines that are not running, and wait for all of them.

        Args:
            quiet: Whether to suppress the notice of a slow start.
            on_stage: Called when the first engine enters a stage, and when the last one is ready.

        Raises:
            RerankerError: An engine did not start, see `Engine.start`.
        """
        if on_stage is not None and len(self.engines) > 1:
            on_stage = _merged(on_stage, sum(engine.live is None for engine in self.engines))
        await event_loop.gather(
            # One notice is enough.
            engine.start(quiet=quiet or engine is not self.engines[0], on_stage=on_stage)
            for engine in self.engines
        )
        self._complete = True

    async def ready(self, *, quiet: bool = False) -> EngineModel:
        """
        Return the model when engines are ready to score with it.

        The first time, all engines have to start, so that a device that does not exist is an error.
        Afterwards one is enough, and the others are started in the background.

        Args:
            quiet: Whether to suppress the notice of a slow start.

        Raises:
            RerankerError: An engine did not start, see `Engine.start`.
        """
        if not self._complete:
            await self.start(quiet=quiet)
        [(_, running), *_] = await self._running(quiet=quiet)
        return running.model

    async def encode(
        self, model: EngineModel, prompts: Sequence[list[int]]
    ) -> tuple[list[list[float]], int]:
        """
        Let the least busy engine score prompts. If it ends meanwhile, let another one try.

        Args:
            model: The model that `ready()` returned.
            prompts: The token ids of each prompt.

        Returns:
            The raw logits of each prompt, in order, and how often the prompts were sent again.

        Raises:
            ClosedError: The engine was closed.
            ForkError: The engines belong to the parent of this process.
            EngineError: An engine failed on a prompt, or two have ended (or the only one).
        """
        tokens = sum(map(len, prompts))
        retries = 0
        while True:
            engine, running = await self._least_busy(model)
            watch = Stopwatch()
            try:
                with engine.scoring(running, tokens):
                    rows = await running.client.encode(prompts)
            except EngineError:
                if retries or len(self.engines) == 1 or running.client.reason is None:
                    raise
                retries += 1
            else:
                self._work[engine] += EngineStats(1, len(prompts), tokens, watch.lap())
                return rows, retries

    def release(self) -> list[Future[None]]:
        """Release the engines. Return futures that wait for the end of those without users."""
        endings = [release(engine, self._user) for engine in self.engines]
        return [ending for ending in endings if ending is not None]

    def _first(self) -> Engine:
        """Return the first engine that runs, or the first one if none does."""
        return next((engine for engine in self.engines if engine.live is not None), self.engines[0])

    async def _least_busy(self, model: EngineModel) -> tuple[Engine, Running]:
        running = await self._running()
        same = [pair for pair in running if pair[1].model.state == model.state]
        if not same:
            raise EngineError(
                f"the files of {self.settings.model} changed during a call, and the engine that "
                "had loaded the old ones has ended: call again"
            )
        return min(same, key=lambda pair: pair[0].outstanding)

    async def _running(self, *, quiet: bool = True) -> list[tuple[Engine, Running]]:
        """Return the engines that run. Start the others, and wait for them if there is none."""
        for engine in self.engines:
            engine.check()
        running = [(engine, live) for engine in self.engines if (live := engine.live) is not None]
        if running:
            for engine in self.engines:
                if engine.live is None:
                    engine.restart(running[0][1].model)
            return running
        starts = (engine.start(quiet=quiet) for engine in self.engines)
        outcomes = await asyncio.gather(*starts, return_exceptions=True)
        for engine, outcome in zip(self.engines, outcomes, strict=True):
            if isinstance(outcome, Running):
                running.append((engine, outcome))
        if not running:
            raise next(outcome for outcome in outcomes if isinstance(outcome, BaseException))
        return running


def _merged(on_stage: OnStage, starts: int) -> OnStage:
    """Return a listener for several starts that reports each stage of them once."""
    reports = {"ready": 1 - starts}

    def report(stage: str) -> None:
        reports[stage] = reports.get(stage, 0) + 1
        if reports[stage] == 1:
            on_stage(stage)

    return report
