"""The embedded scorer: token ids to an engine process, probabilities back."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal

from qwen3_reranker import event_loop
from qwen3_reranker.embedded.engine import Backend, EngineSettings, Running, acquire, release
from qwen3_reranker.embedded.engine_args import validate_engine_args
from qwen3_reranker.embedded.interpreter import locate_interpreter
from qwen3_reranker.embedded.progress import OnStage, announce
from qwen3_reranker.embedded.transformers_client import validate_arguments
from qwen3_reranker.errors import InputError
from qwen3_reranker.model.checkpoint import locate
from qwen3_reranker.model.probe import sigmoid
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.scorer import Scorer, Scores, digest, joined

__all__ = ["EmbeddedScorer"]

# A query's documents are tokenized and sent in parts of so many, and so many parts are under way:
# the engine has enough to do, and the ids of 100,000 documents are never in memory at once.
_PART, _PARTS = 256, 8


class EmbeddedScorer(Scorer):
    """
    Scores with vLLM in a process of its own, or with transformers in this one.

    Args:
        model: A hub name, a folder, or "demo".
        max_length: The largest number of tokens of a prompt; None takes 8192 or the model's
            lower limit.
        engine: "vllm"; "transformers"; or "auto", which is "vllm" on Linux and "transformers" on
            systems for which vLLM has no wheels.
        engine_args: Arguments of the engine that replace those chosen by the package.
        engine_python: The interpreter whose vLLM is used; None looks for one.
        check: Whether the model is first asked two questions with obvious answers.
        quiet: Whether a slow start is not announced on standard error.
        timeout: Seconds, 1 or more, without a sign of life after which a busy engine process is
            ended. A start gets at least 60. It does not limit a call.

    Raises:
        InputError: An argument cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        max_length: int | None = None,
        engine: Literal["auto", "vllm", "transformers"] = "auto",
        engine_args: Mapping[str, Any] | None = None,
        engine_python: str | None = None,
        check: bool = True,
        quiet: bool = False,
        timeout: float = 60.0,
    ) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 1:
            raise InputError(f"timeout={timeout!r}: give a number of seconds, 1 or more")
        if engine not in ("auto", "vllm", "transformers"):
            raise InputError(f"engine={engine!r}: give 'auto', 'vllm' or 'transformers'")
        backend = _default_backend(quiet=quiet) if engine == "auto" else engine
        if backend == "transformers":
            validate_arguments(engine_args or {})
            if engine_python is not None:
                raise InputError(
                    "engine_python= is for vLLM; engine='transformers' computes in this process"
                )
        self.model = locate(model)
        self._quiet = quiet
        settings = EngineSettings(
            self.model,
            max_length,
            validate_engine_args(engine_args),
            None if engine_python is None else locate_interpreter(engine_python),
            check=check,
            timeout=timeout,
            backend=backend,
        )
        user = object()
        self._engine = acquire(settings, user)
        # By aclose(), or when a reranker that nobody closed is collected.
        self._release = weakref.finalize(self, release, self._engine, user)
        self._release.atexit = False

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if not texts:
            return Scores([], [])
        running = await self._engine.start(quiet=self._quiet)
        if len(texts) <= _PART:
            return await self._score_part(running, query, texts, instruction)
        slots = asyncio.Semaphore(_PARTS)

        async def one(part: Sequence[str]) -> Scores:
            async with slots:
                return await self._score_part(running, query, part, instruction)

        parts = (texts[start : start + _PART] for start in range(0, len(texts), _PART))
        tasks = [asyncio.create_task(one(part)) for part in parts]
        return joined(await event_loop.gather(tasks))

    async def _score_part(
        self, running: Running, query: str, texts: Sequence[str], instruction: str | None
    ) -> Scores:
        model = running.model
        write = partial(model.prompts.encode, query, texts, instruction)
        prompts = await event_loop.tokenize(write, texts)
        logits = await self._engine.encode(running, [prompt.ids for prompt in prompts])
        values = [sigmoid(model.margin(row)) for row in logits]
        return Scores(values, [prompt.truncated for prompt in prompts])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return self._engine.model().prompts.prompt(query, document, instruction)

    async def describe(self) -> str:
        model = await self._engine.amodel()
        running = self._engine.running
        return (
            f"embedded {running.description if running else f'{self._engine.settings.backend}, not started'}, "
            f"{model.checkpoint.kind} checkpoint {model.checkpoint.model}, token ids, template "
            f"written by this client, max_length {model.prompts.max_length}"
        )

    async def fingerprint(self) -> str:
        fingerprint = await self._engine.fingerprint()
        length = (await self._engine.amodel()).prompts.max_length
        settings = self._engine.settings
        args = {name: arg for name, arg in settings.user_args.items() if name != "hf_token"}
        return digest([settings.backend, fingerprint, length, args, settings.python])

    async def start(self, *, on_stage: OnStage | None = None) -> None:
        await self._engine.start(quiet=self._quiet, on_stage=on_stage)

    def aclose(self) -> Coroutine[Any, Any, None]:
        # Released at the call, so that whoever cancels the coroutine leaves no engine behind.
        return _wait(self._release())


def _default_backend(*, quiet: bool) -> Backend:
    """Return "vllm", or "transformers" with a notice on systems for which vLLM has no wheels."""
    if sys.platform == "linux":
        return "vllm"
    announce(
        f"vLLM has no wheels for {sys.platform}: the model runs in transformers "
        "(engine='transformers' says so without this notice)",
        quiet=quiet,
    )
    return "transformers"


async def _wait(closing: Future[None] | None) -> None:
    if closing is not None:
        await asyncio.shield(asyncio.wrap_future(closing))
