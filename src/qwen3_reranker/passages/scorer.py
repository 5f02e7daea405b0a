"""Score long documents by their passages, with any scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from heapq import nlargest
from numbers import Real
from statistics import fmean
from typing import NamedTuple

from qwen3_reranker import event_loop
from qwen3_reranker.errors import ScoreError
from qwen3_reranker.model.probability import logit
from qwen3_reranker.model.prompt import Prompt, PromptBuilder
from qwen3_reranker.passages.options import Aggregate, AggregateName
from qwen3_reranker.passages.preselection import preselect
from qwen3_reranker.passages.windows import Span, divide
from qwen3_reranker.ranking import validate_scores
from qwen3_reranker.scorer import DelegatingScorer, Passage, Scorer, Scores
from qwen3_reranker.usage import Stopwatch, Usage

__all__ = ["PassageScorer"]

_AGGREGATES: dict[AggregateName, Callable[[Sequence[float]], float]] = {
    "max": max,
    "mean_top_3": lambda scores: fmean(nlargest(3, scores)),
    "mean": fmean,
    "first": lambda scores: scores[0],
}

# How many characters are divided on the event loop itself: 8,000 characters of one text take 3 ms.
_FEW_CHARACTERS = 8_000


class _Scored(NamedTuple):
    """What a scorer returned for one passage, or what was made of it for one text."""

    value: float
    logit: float
    truncated: bool


class PassageScorer(DelegatingScorer):
    """
    Divide texts into passages, score these with another scorer, and combine their scores.

    The passages of all texts of a call are scored together, and equal ones once. A cache belongs
    inside, so that it holds the scores of passages.

    Args:
        scorer: Scores the passages.
        passage_tokens: The maximum number of tokens in a passage.
        passage_overlap: The number of tokens that consecutive passages share, approximately.
        aggregate: How the scores of passages make a text's score, see `LongDocumentOptions`.
        max_passages: How many passages of each text to score. None scores all.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        passage_tokens: int,
        passage_overlap: int,
        aggregate: Aggregate,
        max_passages: int | None,
    ) -> None:
        super().__init__(scorer)
        self._tokens = passage_tokens
        self._overlap = passage_overlap
        self._aggregate = aggregate if callable(aggregate) else _AGGREGATES[aggregate]
        self._first_only = aggregate == "first"
        self._max_passages = max_passages

    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return the score of each text, made from the scores of its passages.

        Args:
            query: The question or search text.
            texts: The texts to score.
            instruction: None stands for the default instruction.

        Returns:
            The scores in [0, 1], in the order of the texts, with the best passage of each. A text
            is truncated only if one of its passages was.

        Raises:
            InputError: The other scorer has no tokenizer.
            PromptTooLongError: Instruction and query leave no room for a document.
            ScoreError: The other scorer did not return one probability per passage, or `aggregate`
                did not return a probability.
        """
        watch = Stopwatch()
        builder = await self._scorer.prompt_builder()
        usage = Usage(waiting_seconds=watch.lap())
        choose = partial(self._choose, builder, query, texts, instruction)
        chosen = await event_loop.tokenize(choose, texts, few_characters=_FEW_CHARACTERS)
        usage += Usage(tokenizing_seconds=watch.lap())
        slots: dict[str, int] = {}
        for text, spans in zip(texts, chosen, strict=True):
            for start, end in spans:
                slots.setdefault(text[start:end], len(slots))
        scores = await self._scorer.score(query, list(slots), instruction)
        scores = validate_scores(scores, len(slots))
        found = zip(scores.values, scores.log_odds, scores.truncated, strict=True)
        results = [_Scored(*result) for result in found]
        combined = [
            self._combined(spans, [results[slots[text[start:end]]] for start, end in spans])
            for text, spans in zip(texts, chosen, strict=True)
        ]
        return replace(
            scores,
            values=[scored.value for scored, _ in combined],
            truncated=[scored.truncated for scored, _ in combined],
            logits=[scored.logit for scored, _ in combined],
            passages=[passage for _, passage in combined],
            usage=usage + scores.usage,
        )

    def _choose(
        self, builder: PromptBuilder, query: str, texts: Sequence[str], instruction: str | None
    ) -> list[list[Span]]:
        """Return the passages of each text that are to be scored."""
        tokens = min(self._tokens, builder.room(query, instruction))
        overlap = self._overlap * tokens // self._tokens
        divided = divide(builder, texts, tokens, overlap)
        if self._first_only:
            return [spans[:1] for spans in divided]
        if self._max_passages is None:
            return divided
        return [
            [
                spans[index]
                for index in preselect(
                    query, [text[start:end] for start, end in spans], self._max_passages
                )
            ]
            for text, spans in zip(texts, divided, strict=True)
        ]

    def _combined(
        self, spans: Sequence[Span], scored: Sequence[_Scored]
    ) -> tuple[_Scored, Passage]:
        """Return the score of a text, and the best of its passages."""
        best = max(range(len(scored)), key=lambda index: (scored[index].value, scored[index].logit))
        value = self._aggregate([passage.value for passage in scored])
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
            raise ScoreError(
                f"aggregate= returned {value!r} for {len(scored)} passages: it must return a "
                "probability in [0, 1]"
            )
        value = float(value)
        # One passage's score keeps its own log-odds, which are more precise.
        log_odds = scored[best].logit if value == scored[best].value else logit(value)
        truncated = any(passage.truncated for passage in scored)
        start, end = spans[best]
        return (
            _Scored(value, log_odds, truncated),
            Passage(start, end, scored[best].value, len(scored)),
        )

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """Return the other scorer's prompt for the first passage of a document."""
        builder = event_loop.run(self._scorer.prompt_builder())
        (spans,) = self._choose(builder, query, [document], instruction)
        start, end = spans[0] if spans else (0, len(document))  # a blank document has no passages
        return self._scorer.prompt(query, document[start:end], instruction)

    async def describe(self) -> str:
        """Describe the other scorer and the passages, for people to read."""
        described = await self._scorer.describe()
        return (
            f"{described}\ndocuments are scored in passages of up to {self._tokens} tokens that "
            f"overlap by about {self._overlap}"
        )
