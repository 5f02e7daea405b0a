"""What the page does when a user presses something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from qwen3_reranker.errors import InputError
from qwen3_reranker.markup import Html
from qwen3_reranker.playground.documents import documents_of, fields_of
from qwen3_reranker.playground.inputs import Inputs
from qwen3_reranker.playground.messages import error_html, progress_html
from qwen3_reranker.playground.models import Models
from qwen3_reranker.playground.progress import Progress
from qwen3_reranker.playground.prompt_view import prompt_html
from qwen3_reranker.playground.ranking import Result, rank

__all__ = ["Update", "describe_file", "prompt_of", "run"]

# Seconds between two looks at the progress of a run.
_TICK = 0.25
# Characters of a file's first document that the page shows.
_PREVIEW = 80


@dataclass(frozen=True, slots=True)
class Update:
    """
    What the page shows next.

    Attributes:
        message: The message above the results.
        result: The result. None keeps the last one.
        running: Whether the run goes on.
    """

    message: Html
    result: Result | None = None
    running: bool = False


async def run(
    inputs: Inputs, models: Models, *, has_result: bool, tick: float = _TICK
) -> AsyncGenerator[Update, None]:
    """
    Rank, and yield what the page shows meanwhile and at the end. Errors become messages.

    A run whose iteration is canceled takes its requests out of the engine.

    Args:
        inputs: What was entered.
        models: The models of the page.
        has_result: Whether the page shows an earlier result.
        tick: The number of seconds between two updates.
    """
    progress = Progress()
    task = asyncio.ensure_future(rank(inputs, models, progress))
    try:
        while not task.done():
            text = models.explain(progress.text)
            yield Update(progress_html(text, progress.seconds), running=True)
            await asyncio.wait([task], timeout=tick)
        yield Update(Html(), task.result())
    except Exception as error:  # noqa: BLE001  # every failure is shown, and the page stays
        yield Update(error_html(error, kept=has_result, explain=models.explain))
    finally:
        task.cancel()


def describe_file(inputs: Inputs) -> tuple[str, list[str]]:
    """
    Return what the page says of a file, and the keys or columns to choose from.

    There is no choice if the only key or column is used anyway.

    Args:
        inputs: What was entered, with a file.

    Raises:
        InputError: The file cannot be read, even with another field.
    """
    assert inputs.file is not None
    fields = fields_of(inputs.file)
    try:
        documents = documents_of(inputs)
    except InputError as error:
        if not fields or inputs.field:
            raise
        return str(error), fields
    first = " ".join(documents[0].split())
    shown = first if len(first) <= _PREVIEW else f"{first[:_PREVIEW]} …"
    count = f"{len(documents):,} document{'' if len(documents) == 1 else 's'}"
    choices = fields if len(fields) > 1 or inputs.field else []
    return f"{inputs.file.name}: {count}. The first: {shown}", choices


def prompt_of(result: Result, models: Models, rank: int, side: int) -> Html:
    """
    Return the prompt of a document, or an error as a message.

    Args:
        result: The result that has the document.
        models: The models of the page.
        rank: The document's rank in the first ranking, from 0.
        side: 0 for the first setting, 1 for the second one of a comparison.
    """
    index = result.rankings[0].hits[rank].index
    ranked = result.rankings[side]
    hit = next(hit for hit in ranked.hits if hit.index == index)
    text, note = hit.text, ""
    if hit.passage is not None:
        text = text[hit.passage.start : hit.passage.end]
        if hit.passage.count > 1:
            note = f"Of the document's {hit.passage.count} passages, this one decided the score."
    reranker = models.reranker(ranked.setting.model, result.inputs.long_documents)
    try:
        prompt = reranker.prompt(result.inputs.query, text, ranked.setting.instruction)
    except Exception as error:  # noqa: BLE001  # every failure is shown, and the page stays
        return error_html(error, explain=models.explain)
    return prompt_html(prompt, note)
