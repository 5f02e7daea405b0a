"""Rank the documents of a page once, or twice to compare."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwen3_reranker.errors import EngineError, InputError
from qwen3_reranker.model.template import DEFAULT_INSTRUCTION
from qwen3_reranker.playground.documents import documents_of
from qwen3_reranker.playground.inputs import Inputs
from qwen3_reranker.playground.models import Models, PageLimits
from qwen3_reranker.playground.progress import Progress
from qwen3_reranker.ranking import Hit, validate_query
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.selection import Selection
from qwen3_reranker.usage import Usage

__all__ = ["Ranked", "Result", "Setting", "rank", "settings_of"]

# Documents that are scored between two reports of progress.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Setting:
    """
    How documents are scored.

    Attributes:
        model: The name of the model, as the page shows it.
        instruction: The instruction that the model reads.
    """

    model: str
    instruction: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """
    A ranking of all documents.

    Attributes:
        setting: How they were scored.
        hits: All documents, best first.
        kept: How many of them `top_n` and `min_score` keep: the first ones.
        usage: What scoring cost.
    """

    setting: Setting
    hits: list[Hit]
    kept: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a run of the page has found.

    Attributes:
        inputs: What was entered.
        documents: The documents, in the order given.
        rankings: One ranking, or two to compare.
    """

    inputs: Inputs
    documents: list[str]
    rankings: list[Ranked]


def settings_of(inputs: Inputs, models: Models) -> list[Setting]:
    """
    Return how the documents are to be scored: one setting, or two to compare.

    Raises:
        InputError: A model is unknown.
    """
    first = _setting(models, inputs.model, inputs.instruction)
    if not inputs.compare:
        return [first]
    model = inputs.other_model or inputs.model
    second = _setting(models, model, inputs.other_instruction or inputs.instruction)
    if first == second:
        raise InputError(
            "both sides of the comparison are the same: change the second instruction"
            + (" or the second model" if len(models.names) > 1 else "")
        )
    return [first, second]


async def rank(inputs: Inputs, models: Models, progress: Progress) -> Result:
    """
    Rank the documents of a page.

    Args:
        inputs: What was entered.
        models: The models of the page.
        progress: Told about the start of an engine and the documents scored so far.

    Raises:
        InputError: An input cannot be used.
        RerankerError: Scoring failed.
    """
    validate_query(inputs.query)
    selection = Selection(top_n=inputs.top_n, min_score=inputs.min_score)
    documents = await asyncio.to_thread(documents_of, inputs)  # a large file takes seconds
    settings = settings_of(inputs, models)
    for setting in settings:
        models.limits.check(inputs.query, documents, setting.instruction)
    rankings = []
    for side, setting in enumerate(settings):
        reranker = models.reranker(setting.model, inputs.long_documents)
        await progress.start(reranker)
        label = f" with setting {'AB'[side]}" if len(settings) > 1 else ""
        hits, usage = await _score(
            reranker, inputs.query, documents, setting.instruction, models.limits, progress, label
        )
        rankings.append(Ranked(setting, hits, len(selection.of(hits)), usage))
    return Result(inputs, documents, rankings)


def _setting(models: Models, name: str, instruction: str) -> Setting:
    model = models.find(name)
    return Setting(model.name, instruction.strip() or model.instruction or DEFAULT_INSTRUCTION)


async def _score(
    reranker: Reranker,
    query: str,
    documents: Sequence[str],
    instruction: str,
    limits: PageLimits,
    progress: Progress,
    label: str,
) -> tuple[list[Hit], Usage]:
    """Return all documents, best first, and what scoring them cost."""
    texts = list(dict.fromkeys(documents))  # equal documents may be in different chunks
    scored: dict[str, Hit] = {}
    usage = Usage()
    for start in range(0, len(texts), _CHUNK):
        done = f"{start:,} of {len(texts):,} scored" if start else f"{len(texts):,}"
        progress.show(f"Scoring documents{label}: {done}")
        chunk = texts[start : start + _CHUNK]
        async with limits.turn():
            ranking = await reranker.arerank(query, chunk, instruction=instruction)
        if ranking and (reason := ranking[0].error):  # on_error="keep_order"
            raise EngineError(reason)
        scored |= {chunk[hit.index]: hit for hit in ranking}
        usage += ranking.usage
    hits = [replace(scored[text], index=index) for index, text in enumerate(documents)]
    # In the order of `Reranker.rerank()`: blank documents last, and ties in the order given.
    hits.sort(key=lambda hit: (not hit.text.strip(), -hit.score, -hit.logit, hit.index))
    return hits, replace(usage, queries=1, documents=len(documents))
