"""Sources of queries: what they raise is never taken for their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from qwen3_reranker import Prompt, Reranker, Scorer, Scores


class ConstantScorer(Scorer):
    model = "constant"

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        return Scores([0.5] * len(texts), [False] * len(texts))

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        raise NotImplementedError


class Broken(Sequence[str]):
    """Documents whose iteration ends with an error that would end any iterator."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error


@pytest.mark.timeout(60)
@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize(
    ("call", "source"),
    [
        ("rerank_iter", "list"),
        ("rerank_iter", "thread"),
        ("arerank_iter", "list"),
        ("arerank_iter", "thread"),
        ("arerank_iter", "task"),
    ],
)
async def test_an_error_that_ends_iterators_does_not_end_the_stream_silently(
    call: str, source: str, error: type[Exception]
) -> None:
    pairs: list[Any] = [("a", ["x"]), ("b", Broken(error)), ("c", ["z"])]

    async def apairs() -> AsyncIterator[Any]:
        for pair in pairs:
            yield pair

    reranker = Reranker(scorer=ConstantScorer())
    sources: dict[str, Any] = {"list": pairs, "thread": iter(pairs), "task": apairs()}
    hits = []
    with pytest.raises((RuntimeError, StopAsyncIteration)):
        if call == "arerank_iter":
            async for found in reranker.arerank_iter(sources[source]):
                hits.append(found)
        else:
            stream = reranker.rerank_iter(sources[source])
            await asyncio.to_thread(lambda: hits.extend(stream))
    assert len(hits) == 1
