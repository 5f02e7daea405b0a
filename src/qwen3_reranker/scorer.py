"""The contract between the reranker and whatever computes scores."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.model.prompt import Prompt
from qwen3_reranker.redaction import Secret

__all__ = ["Scorer", "Scores", "digest", "joined", "not_cacheable"]


@dataclass(frozen=True, slots=True)
class Scores:
    """
    The answer of a scorer.

    Attributes:
        values: P(yes) of each text, in [0, 1], in the order of the texts.
        truncated: For each text whether its end was cut.
    """

    values: list[float]
    truncated: list[bool]


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the parts' scores, one part behind the other."""
    return Scores(
        [value for part in parts for value in part.values],
        [cut for part in parts for cut in part.truncated],
    )


def digest(parts: Any) -> str:
    """
    Return the SHA-256 of JSON-like parts, in hexadecimal.

    JSON keeps ["a", "bc"] and ["ab", "c"] apart, and a digest shows nobody a key or a token. A
    secret counts with its value, and an object of another type with its repr.
    """

    def plain(part: object) -> Any:
        return part.reveal() if isinstance(part, Secret) else repr(part)

    text = json.dumps(parts, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


def not_cacheable(scorer: Scorer) -> InputError:
    """Return the error for a scorer that does not override `fingerprint`."""
    return InputError(
        f"{type(scorer).__name__} cannot be used with cache=: it does not say what its scores "
        "depend on. Override fingerprint() to return the model, its version and all settings that "
        "can change a score"
    )


class Scorer(ABC):
    """
    Scores texts for a query. Its coroutines run on the package's background loop.

    Attributes:
        model: The name that traces and events show.
    """

    model: str

    @abstractmethod
    async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
        """
        Return P(yes) of each text; None stands for the model's default instruction.

        The texts are different from each other and not blank. An error is raised; it never
        becomes a score.
        """

    @abstractmethod
    def prompt(self, query: str, document: str, instruction: str | None) -> Prompt:
        """Return the prompt that `score` would send for one document."""

    async def fingerprint(self) -> str | None:
        """
        Return everything besides instruction, query and text that a score depends on.

        A cache needs it. Two scorers that can give different scores must not return the same
        string; include the weights, the length limit, the dtype and the template. Do not include
        secrets. Return None while no single string describes every score that `score` may return,
        as with servers that differ: the cache is then neither read nor written.

        Raises:
            InputError: The scorer does not override this method, so its scores are not cacheable.
        """
        raise not_cacheable(self)

    async def describe(self) -> str:
        """Describe the backend, for people to read."""
        return f"{type(self).__name__} with {self.model}"

    async def start(self, *, on_stage: Callable[[str], None] | None = None) -> None:  # noqa: ARG002
        """
        Load what `score` needs, so that the first call is not the slow one.

        Args:
            on_stage: Called with the name of each stage, where there are several.
        """
        return

    async def aclose(self) -> None:
        """Give back what is held. Closing twice is allowed."""
        return
