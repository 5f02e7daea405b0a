"""The embedded scorer: a vLLM engine in this process's care, token ids in, probabilities out."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from qwen3_reranker import background
from qwen3_reranker.checkpoint import Checkpoint, locate
from qwen3_reranker.errors import ScoreError
from qwen3_reranker.prompt import Prompt
from qwen3_reranker.scorers.base import Scorer, Scores, digest, joined
from qwen3_reranker.scorers.engine import Engine, lease, release
from qwen3_reranker.scorers.redaction import conceal_token

__all__ = ["VllmScorer"]

# A query's documents are tokenized so many at a time, and so many such runs are in the works: the
# engine has enough to do, and the ids of a hundred thousand documents never stand in memory.
_RUN, _RUNS = 256, 8


class VllmScorer(Scorer):
    """
    Scores with vLLM's AsyncLLM (0.27 to 0.33), in a process of its own.

    Args:
        model: A hub name, a folder, or "demo".
        max_length: The most tokens of a prompt; None takes 8192 or the model's lower limit.
        engine_args: Arguments of vLLM's engine that replace those chosen by the package.
    """

    def __init__(
        self,
        model: str,
        *,
        max_length: int | None = None,
        engine_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = locate(model)
        args = conceal_token(engine_args or {})
        del engine_args
        # A digest, because the arguments may hold an access token.
        key = digest([self.model, max_length, args])
        self._engine = lease(key, self.model, max_length, args)
        # Once: by aclose(), or when a reranker that nobody closed is collected.
        self._give_back = weakref.finalize(self, _give_back, key, self._engine)
        self._give_back.atexit = False

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if len(texts) <= _RUN:
            return await self._run(query, texts, instruction)
        slots = asyncio.Semaphore(_RUNS)

        async def one(run: Sequence[str]) -> Scores:
            async with slots:
                return await self._run(query, run, instruction)

        runs = (texts[start : start + _RUN] for start in range(0, len(texts), _RUN))
        return joined(await background.gather([asyncio.create_task(one(run)) for run in runs]))

    async def _run(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        checkpoint, builder = await self._engine.aload()
        write = partial(builder.encode, query, texts, instruction)
        prompts = await background.tokenize(write, texts)
        logits = await self._engine.encode([prompt.ids for prompt in prompts])
        values = [_probability(row, checkpoint) for row in logits]
        return Scores(values, [prompt.truncated for prompt in prompts])

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return self._engine.load()[1].prompt(query, document, instruction)

    async def describe(self) -> str:
        checkpoint, builder = await self._engine.aload()
        return (
            f"embedded vLLM, {checkpoint.kind} checkpoint {checkpoint.model}, token ids, template "
            f"written by this client, max_length {builder.max_length}"
        )

    async def fingerprint(self) -> str:
        _, builder = await self._engine.aload()
        args = {k: v for k, v in self._engine.user_args.items() if k != "hf_token"}
        return digest(["vllm", self._engine.fingerprint, builder.max_length, args])

    async def start(self) -> None:
        await self._engine.start()

    async def aclose(self) -> None:
        closing = self._give_back()
        if closing is not None:
            await asyncio.wrap_future(closing)


def _give_back(key: object, engine: Engine) -> Future[None] | None:
    """Count this user out; the last one's leaving stops the engine."""
    return background.submit(engine.aclose()) if release(key, engine) else None


def _probability(logits: list[float], checkpoint: Checkpoint) -> float:
    """Return P(yes) of one prompt's raw logits: yes - no, or one a label."""
    if len(logits) != (2 if checkpoint.kind == "two-label" else 1):
        raise ScoreError(f"the engine gave {len(logits)} numbers for a {checkpoint.kind} model")
    margin = logits[0]
    if len(logits) == 2:
        yes = checkpoint.yes_label
        margin = logits[yes] - logits[1 - yes]
    # The form that cannot overflow for a very negative margin.
    odds = math.exp(-abs(margin))
    return (1 if margin >= 0 else odds) / (1 + odds)
