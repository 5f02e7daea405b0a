"""The contract between the reranker and whatever computes scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_reranker.prompt import Prompt

__all__ = ["Scorer", "Scores", "joined"]


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

    async def fingerprint(self) -> str:
        """Return what a score depends on beside the instruction, the query and the text."""
        return f"{type(self).__name__} {self.model}"

    async def describe(self) -> str:
        """Return what scores and how, for people to read."""
        return f"{type(self).__name__} with {self.model}"

    async def start(self) -> None:
        """Load what `score` needs, so that the first call is not the slow one."""
        return

    async def aclose(self) -> None:
        """Give back what is held. Closing twice is allowed."""
        return
