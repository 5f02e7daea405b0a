"""The embedded scorer: sends token ids to an engine, and turns its logits into probabilities."""

from __future__ import annotations

import asyncio
import math
import sys
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from qwen3_reranker import event_loop
from qwen3_reranker.embedded.devices import assign_devices
from qwen3_reranker.embedded.engine_args import validate_engine_args
from qwen3_reranker.embedded.engine_group import EngineGroup
from qwen3_reranker.embedded.engine_settings import (
    Backend,
    EngineChoice,
    EngineModel,
    EngineSettings,
)
from qwen3_reranker.embedded.interpreter import locate_interpreter
from qwen3_reranker.embedded.progress import OnStage, announce
from qwen3_reranker.embedded.transformers_client import validate_arguments
from qwen3_reranker.errors import InputError
from qwen3_reranker.model.checkpoint import locate
from qwen3_reranker.model.probability import sigmoid
from qwen3_reranker.model.prompt import Prompt, PromptBuilder
from qwen3_reranker.scorer import Scorer, Scores, digest, joined
from qwen3_reranker.usage import EngineStats, Stopwatch, Usage

__all__ = ["EmbeddedScorer"]

# The documents of a query are tokenized and sent in parts of at most this size, several at a time,
# and equally many for each engine. This keeps the engines busy without holding the token ids of,
# say, 100,000 documents in memory at once.
_DOCUMENTS_PER_PART = 256
_CONCURRENT_PARTS = 8
# Several engines share the documents of a query, but not fewer than these, because each part begins
# with the same prompt.
_FEWEST_DOCUMENTS_PER_PART = 8


class EmbeddedScorer(Scorer):
    """
    Score with vLLM in a process of its own, or with transformers in this process.

    Args:
        model: A hub name, a folder, or "demo".
        max_length: The maximum number of tokens in a prompt, including the template. None uses
            8192, or the model's limit if that is lower.
        engine: "vllm", "transformers", or "auto", which is "vllm" on Linux and "transformers" on
            systems for which vLLM has no wheels.
        engine_args: Arguments of the engine, which replace those that this package chooses.
        engine_python: The interpreter whose vLLM runs the engine. None looks for one.
        devices: The GPUs or the sets of cores to use, see `assign_devices`. None uses one engine on
            the default device.
        check: Whether to score two questions with obvious answers when an engine has started.
        quiet: Whether to suppress the notice of a slow start on standard error.
        timeout: The number of seconds, 1 or more, without a sign of life after which a busy engine
            process is ended. A start has at least 60. This does not limit the duration of a call.

    Raises:
        InputError: An argument cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        max_length: int | None = None,
        engine: EngineChoice = "auto",
        engine_args: Mapping[str, Any] | None = None,
        engine_python: str | None = None,
        devices: Sequence[int | str] | None = None,
        check: bool = True,
        quiet: bool = False,
        timeout: float = 60.0,
    ) -> None:
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not number or not 1 <= timeout < math.inf:
            raise InputError(f"timeout={timeout!r}: give a finite number of seconds, 1 or more")
        args = validate_engine_args(engine_args)
        if engine not in get_args(EngineChoice):
            choices = ", ".join(map(repr, get_args(EngineChoice)))
            raise InputError(f"engine={engine!r}: give one of {choices}")
        backend = _default_backend(quiet=quiet) if engine == "auto" else engine
        if backend == "transformers":
            validate_arguments(args)
            if engine_python is not None:
                raise InputError(
                    "engine_python= is for vLLM; engine='transformers' runs in this process"
                )
            if devices is not None:
                raise InputError(
                    "devices= is for vLLM; give engine='transformers' one device with "
                    "engine_args={'device': 'cuda:0'}"
                )
        self.model = locate(model)
        self.max_length = max_length
        self._quiet = quiet
        assigned = assign_devices(devices, args)
        args.pop("data_parallel_size", None)
        settings = EngineSettings(
            self.model,
            max_length,
            args,
            None if engine_python is None else locate_interpreter(engine_python),
            check=check,
            # Equal numbers of different types would have different keys.
            timeout=float(timeout),
            backend=backend,
        )
        self._engines = EngineGroup([replace(settings, devices=each) for each in assigned])
        # Called by aclose(), or when a reranker that was not closed is garbage collected.
        self._release = weakref.finalize(self, self._engines.release)
        self._release.atexit = False

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of each text; the engine is started if it is not running.

        Args:
            query: The question or search text.
            texts: The texts to score.
            instruction: None uses the default instruction.

        Returns:
            The scores in [0, 1], in the order of the texts, and which texts were truncated.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            CheckpointError: The model is not a Qwen3 reranker.
            ClosedError: The scorer is closed, or was closed while the call was waiting.
            EngineError: The engine did not start, or failed.
        """
        if not texts:
            return Scores([], [])
        watch = Stopwatch()
        model = await self._engines.ready(quiet=self._quiet)
        waited = watch.lap()
        engines = len(self._engines.engines)
        shares = max(1, min(engines, len(texts) // _FEWEST_DOCUMENTS_PER_PART))
        parts_per_share = math.ceil(len(texts) / (shares * _DOCUMENTS_PER_PART))
        size = math.ceil(len(texts) / (shares * parts_per_share))
        if len(texts) <= size:
            return await self._score_part(model, query, texts, instruction, waited)
        slots = asyncio.Semaphore(max(_CONCURRENT_PARTS, 2 * engines))

        async def score_part(part: Sequence[str]) -> Scores:
            watch = Stopwatch()
            async with slots:
                return await self._score_part(model, query, part, instruction, watch.lap())

        starts = range(0, len(texts), size)
        parts = (score_part(texts[start : start + size]) for start in starts)
        return joined(await event_loop.gather(parts), Usage(waiting_seconds=waited))

    async def _score_part(
        self,
        model: EngineModel,
        query: str,
        texts: Sequence[str],
        instruction: str | None,
        waited: float,
    ) -> Scores:
        """Score texts with an engine; `waited` are the seconds until it was their turn."""
        watch = Stopwatch()
        encode = partial(model.prompts.encode, query, texts, instruction)
        prompts = await event_loop.tokenize(encode, texts)
        tokenizing = watch.lap()
        logits, retries = await self._engines.encode(model, [prompt.ids for prompt in prompts])
        scoring = watch.lap()
        log_odds = [model.logit(row) for row in logits]
        values = [sigmoid(value) for value in log_odds]
        usage = Usage(
            scored=len(prompts),
            tokens=sum(len(prompt.ids) for prompt in prompts),
            retries=retries,
            tokenizing_seconds=tokenizing,
            waiting_seconds=waited,
            scoring_seconds=scoring,
        )
        return Scores(values, [prompt.truncated for prompt in prompts], log_odds, usage=usage)

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """
        Return the prompt of one document, without starting the engine.

        Args:
            query: The question or search text.
            document: The text.
            instruction: None uses the default instruction.

        Raises:
            PromptTooLongError: Instruction and query leave no room for a document.
            CheckpointError: The model is not a Qwen3 reranker.
        """
        return self._engines.model().prompts.prompt(query, document, instruction)

    async def prompt_builder(self) -> PromptBuilder:
        """
        Return what writes the model's prompts, without starting the engine.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
        """
        return (await self._engines.amodel()).prompts

    async def describe(self) -> str:
        """
        Describe the engine and the checkpoint, and whether the engine is running.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
        """
        model = await self._engines.amodel()
        return (
            f"embedded {self._engines.describe()}, {model.checkpoint.kind} checkpoint "
            f"{model.checkpoint.model}, "
            f"token ids, template written by this client, max_length {model.prompts.max_length}"
        )

    async def fingerprint(self) -> str:
        """
        Return a digest of the model's files and of every setting that can change a score.

        The files are those that the running engine has loaded, or those that it would load now.

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
        """
        fingerprint = await self._engines.fingerprint()
        length = (await self._engines.amodel()).prompts.max_length
        settings = self._engines.settings
        args = {name: arg for name, arg in settings.user_args.items() if name != "hf_token"}
        return digest([settings.backend, fingerprint, length, args, settings.python])

    def engine_stats(self) -> Mapping[str, EngineStats]:
        """Return what each engine did for this reranker, by its device."""
        return self._engines.stats()

    async def start(self, *, on_stage: OnStage | None = None) -> None:
        """
        Start the engine, unless it is running.

        Args:
            on_stage: Called with each stage of the start: "import", "load", "compile", "ready".

        Raises:
            CheckpointError: The model is not a Qwen3 reranker.
            ClosedError: The scorer is closed.
            EngineError: The engine did not start.
        """
        await self._engines.start(quiet=self._quiet, on_stage=on_stage)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """
        Release the engine, and return a coroutine that waits until it has ended.

        The engine ends when its last scorer releases it, and pending calls raise `ClosedError`.
        """
        # Released by the call itself, so that canceling the coroutine leaves no engine behind.
        return _wait(self._release() or ())


def _default_backend(*, quiet: bool) -> Backend:
    """Return "vllm" on Linux. Elsewhere, print a notice and return "transformers"."""
    if sys.platform == "linux":
        return "vllm"
    announce(
        f"vLLM has no wheels for {sys.platform}, so transformers runs the model "
        "(give engine='transformers' to avoid this notice)",
        quiet=quiet,
    )
    return "transformers"


async def _wait(endings: Sequence[Future[None]]) -> None:
    await asyncio.gather(*(asyncio.shield(asyncio.wrap_future(ending)) for ending in endings))
