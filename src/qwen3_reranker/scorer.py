"""The interface of scorers: what a `Reranker` needs from an engine or a server."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.probability import logit
from qwen3_reranker.model.prompt import Prompt, PromptBuilder
from qwen3_reranker.redaction import Secret
from qwen3_reranker.usage import EndpointStats, EngineStats, Usage

__all__ = [
    "DelegatingScorer",
    "Passage",
    "Scorer",
    "Scores",
    "digest",
    "joined",
    "not_cacheable",
]


@dataclass(frozen=True, slots=True)
class Passage:
    """
    The passage that decided the score of a long document.

    Attributes:
        start: The position of its first character in the document's text, from 0.
        end: The position after its last character.
        score: P(yes) of the passage, in [0, 1].
        count: How many passages of the document were scored.
    """

    start: int
    end: int
    score: float
    count: int


@dataclass(frozen=True, slots=True)
class Scores:
    """
    The scores of a list of texts.

    Attributes:
        values: P(yes) of each text, in [0, 1], in the order of the texts.
        truncated: Whether the end of each text was cut off to fit the prompt, in the same order.
        logits: The log-odds of each text, which tell scores apart that are rounded to 0.0 or 1.0.
            None derives them from `values`, see `log_odds`.
        passages: The best passage of each text. None if texts were scored whole.
        usage: What the scores cost, as far as the scorer knows: all of `Usage` except `queries`,
            `failures`, `documents`, `passages`, `truncated` and `seconds`, which a `Reranker` adds.
            It plays no part in comparisons.
    """

    values: list[float]
    truncated: list[bool]
    logits: list[float] | None = None
    passages: list[Passage] | None = None
    usage: Usage = field(default=Usage(), compare=False)  # it is immutable

    @property
    def log_odds(self) -> list[float]:
        """The log-odds of each text: `logits`, or those of `values`, which are within ±27.6."""
        return [logit(value) for value in self.values] if self.logits is None else self.logits


def joined(parts: Sequence[Scores], usage: Usage = Usage()) -> Scores:  # noqa: B008
    """
    Concatenate the scores of the parts of a list of texts, which were scored whole.

    Args:
        parts: The scores of each part.
        usage: What the call cost besides its parts, whose usage is added.
    """
    return Scores(
        [value for part in parts for value in part.values],
        [cut for part in parts for cut in part.truncated],
        [value for part in parts for value in part.log_odds],
        usage=sum((part.usage for part in parts), usage),
    )


def digest(parts: Any) -> str:
    """
    Return the SHA-256 digest of JSON-like data, in hexadecimal.

    The data is encoded as JSON, so ["a", "bc"] and ["ab", "c"] differ. A `Secret` is encoded by
    its value, which the digest does not reveal, and an object of any other type by its repr.
    """

    def plain(part: object) -> Any:
        return part.reveal() if isinstance(part, Secret) else repr(part)

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def not_cacheable(scorer: Scorer) -> InputError:
    """Return the error for a scorer that does not override `fingerprint()`."""
    return InputError(
        f"{type(scorer).__name__} cannot be used with cache=: it does not say what its scores "
        "depend on. Override fingerprint() to return the model, its version and all settings that "
        "can change a score"
    )


class Scorer(ABC):
    """
    Score texts for a query.

    Subclass it to use another model runner with `Reranker(scorer=...)`. The coroutines run on the
    package's event loop, in a thread of its own, and must not block it.

    Attributes:
        model: The name of the model that traces and events show.
        max_length: The limit of a prompt's tokens that the caller chose. None is the default limit.
    """

    model: str
    max_length: int | None = None

    @abstractmethod
    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of each text.

        Args:
            query: The question or search text; not blank.
            texts: The texts to score, unique and not blank.
            instruction: What makes a text a good match. None stands for the default instruction.

        Returns:
            The scores in [0, 1], in the order of the texts, and which texts were truncated.

        Raises:
            RerankerError: Scoring failed. A failure must never be returned as a score.
        """

    @abstractmethod
    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """
        Return the prompt that `score()` would send for one document.

        Args:
            query: The question or search text.
            document: The text to score.
            instruction: What makes a text a good match. None stands for the default instruction.
        """

    async def prompt_builder(self) -> PromptBuilder:
        """
        Return what writes the model's prompts, which has the model's tokenizer.

        Long documents are divided into passages, and token budgets are counted, with it.

        Raises:
            InputError: The scorer does not override this method, or has no tokenizer.
        """
        raise InputError(
            f"{type(self).__name__} has no tokenizer, which passages and token budgets need. "
            "Override prompt_builder() to return a PromptBuilder with the model's tokenizer.json"
        )

    async def fingerprint(self) -> str | None:
        """
        Return a string for everything that a score depends on, except instruction, query and text.

        A cache needs it. Two scorers that may give different scores must not return the same
        string, so include the weights, the length limit, the dtype and the template, but no
        secrets. Return None as long as no string describes every score that `score()` may return,
        as with several servers that differ. The cache is then neither read nor written.

        Raises:
            InputError: The scorer does not override this method, so its scores cannot be cached.
        """
        raise not_cacheable(self)

    async def describe(self) -> str:
        """Describe the backend, for people to read."""
        return f"{type(self).__name__} with {self.model}"

    def endpoint_stats(self) -> Mapping[str, EndpointStats]:
        """Return what each server did so far and its state, by URL. Callable from any thread."""
        return {}

    def engine_stats(self) -> Mapping[str, EngineStats]:
        """Return what each embedded engine did so far, by device. Callable from any thread."""
        return {}

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:  # noqa: ARG002
        """
        Load what `score()` needs, so that the first call does not have to wait.

        Args:
            on_stage: Called with the name of each stage of the start, if there are several.
        """
        return

    async def aclose(self) -> None:
        """Release all resources. Closing twice is allowed."""
        return


class DelegatingScorer(Scorer):
    """
    A scorer that changes how another one is used. Subclasses override `score()`.

    Fingerprints are not delegated, because the subclass may compute other scores.

    Args:
        scorer: The other scorer. It is closed together with this one.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @property
    def model(self) -> str:  # type: ignore[override]
        """The name of the other scorer's model."""
        return self._scorer.model

    @property
    def max_length(self) -> int | None:  # type: ignore[override]
        """The other scorer's limit of a prompt's tokens."""
        return self._scorer.max_length

    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """Return the other scorer's prompt for one document."""
        return self._scorer.prompt(query, document, instruction)

    def prompt_builder(self) -> Coroutine[Any, Any, PromptBuilder]:
        """Return what writes the other scorer's prompts."""
        return self._scorer.prompt_builder()

    def endpoint_stats(self) -> Mapping[str, EndpointStats]:
        """Return what each of the other scorer's servers did so far, and its state."""
        return self._scorer.endpoint_stats()

    def engine_stats(self) -> Mapping[str, EngineStats]:
        """Return what each of the other scorer's engines did so far."""
        return self._scorer.engine_stats()

    def start(self, *, on_stage: Callable[[str], None] | None = None) -> Coroutine[Any, Any, None]:
        """Start the other scorer."""
        return self._scorer.start(on_stage=on_stage)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """Release the other scorer's resources."""
        return self._scorer.aclose()
