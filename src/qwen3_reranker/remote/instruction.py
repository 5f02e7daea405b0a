"""Measure whether a server uses the instruction of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from qwen3_reranker import event_loop
from qwen3_reranker.errors import AnswerError, ServerError
from qwen3_reranker.model.probe import NEGATION, PROBES, InstructionEffect
from qwen3_reranker.remote.responses import RetryableError

__all__ = ["measure_instruction"]

Score = Callable[[str, Sequence[str], str | None], Awaitable[Sequence[float]]]
"""Returns P(yes) of each document for a query and an instruction."""

# A single failure may be an accident.
_TRIES = 2


async def measure_instruction(score: Score) -> InstructionEffect | ServerError | AnswerError:
    """
    Score the same texts with the default instruction, and with one that means the opposite.

    Args:
        score: Sends a request to the server.

    Returns:
        The effect of the instruction; or the error, if the server refuses every request that has
        an instruction.

    Raises:
        ServerError: The server refused a request without an instruction, or is unavailable.
        AnswerError: It did not return one probability per document, without an instruction.
    """
    query, texts = PROBES[1]
    plain, repeat = await event_loop.gather(_score(score, query, texts) for _ in range(2))
    refusal: ServerError | AnswerError | None = None
    for _ in range(_TRIES):
        try:
            other = await score(query, texts, NEGATION)
        except (ServerError, AnswerError) as error:
            if isinstance(error, RetryableError) and error.transient:
                raise
            refusal = error
        else:
            return InstructionEffect.measure(plain, repeat, other)
    assert refusal is not None
    return refusal


async def _score(score: Score, query: str, texts: Sequence[str]) -> Sequence[float]:
    return await score(query, texts, None)
