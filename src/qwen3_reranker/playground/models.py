"""The models of a page: what scores, by the model's name and by how long documents are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self

from qwen3_reranker.errors import InputError
from qwen3_reranker.playground.inputs import LongDocuments
from qwen3_reranker.reranker import Reranker

__all__ = ["Models", "PageLimits", "PageModel", "long_document_modes"]


@dataclass(frozen=True, slots=True)
class PageModel:
    """
    A model that a page offers.

    Attributes:
        name: The name that the page shows.
        instruction: The instruction if the user enters none. None uses the package's default.
        rerankers: What scores, by how it scores long documents; the default way first.
    """

    name: str
    instruction: str | None
    rerankers: Mapping[LongDocuments, Reranker]


class PageLimits(Protocol):
    """Limits what the users of a page may have scored."""

    def check(self, query: str, documents: Sequence[str], instruction: str) -> None:
        """
        Check what is to be scored.

        Raises:
            InputError: It is too much.
        """

    def turn(self) -> AbstractAsyncContextManager[None]:
        """
        Return a context in which some of the documents are scored. Entering it may take time.

        Raises:
            RerankerError: They cannot be scored now, or were not scored in time.
        """


class _NoLimits:
    """Allows everything."""

    def check(self, query: str, documents: Sequence[str], instruction: str) -> None:
        """Do nothing."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()


class Models:
    """
    The models of a page.

    Args:
        models: The models, with different names; the first one is the default.
        explain: Changes the messages of errors for those who see the page. None leaves them as
            they are.
        limits: Limits what is scored. None allows everything.

    Attributes:
        explain: The same, as a function.
        limits: The same.

    Raises:
        InputError: There are none.
    """

    def __init__(
        self,
        models: Sequence[PageModel],
        explain: Callable[[str], str] | None = None,
        limits: PageLimits | None = None,
    ) -> None:
        if not models:
            raise InputError("create_page() needs at least one Reranker")
        self.explain = explain or str
        self.limits: PageLimits = limits or _NoLimits()
        self._models = {model.name: model for model in models}

    @classmethod
    def of(cls, rerankers: Sequence[Reranker], explain: Callable[[str], str] | None = None) -> Self:
        """
        Return the models of rerankers.

        Args:
            rerankers: The rerankers; the first one is the default. Rerankers of the same model that
                score long documents in different ways are one model of the page. Others of the same
                name get a number.
            explain: As for the class.

        Raises:
            InputError: There are none.
        """
        found: dict[str, dict[LongDocuments, Reranker]] = {}
        instructions: dict[str, str | None] = {}
        for reranker in rerankers:
            number, name = 1, reranker.model
            while reranker.long_documents in found.get(name, {}):
                number += 1
                name = f"{reranker.model} ({number})"
            found.setdefault(name, {})[reranker.long_documents] = reranker
            instructions.setdefault(name, reranker.instruction)
        return cls([PageModel(name, instructions[name], found[name]) for name in found], explain)

    @property
    def names(self) -> list[str]:
        """The names of the models, the default one first."""
        return list(self._models)

    @property
    def modes(self) -> list[LongDocuments]:
        """How long documents can be scored, the default first."""
        modes = (mode for model in self._models.values() for mode in model.rerankers)
        return list(dict.fromkeys(modes))

    def find(self, name: str) -> PageModel:
        """
        Return a model.

        Args:
            name: The name of the model; blank for the default one.

        Raises:
            InputError: There is no such model.
        """
        model = self._models.get(name or self.names[0])
        if model is None:
            raise InputError(
                f"this page has no model {name!r}: choose one of {', '.join(self.names)}"
            )
        return model

    def reranker(self, name: str, mode: LongDocuments) -> Reranker:
        """
        Return what scores for a model.

        Args:
            name: The name of the model; blank for the default one.
            mode: How it scores long documents.

        Raises:
            InputError: There is no such model, or it cannot score long documents like that.
        """
        model = self.find(name)
        if mode not in model.rerankers:
            raise InputError(
                f"the model {model.name} does not score long documents like that on this page: "
                "choose another way, or another model"
            )
        return model.rerankers[mode]


def long_document_modes(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return the options of one reranker for each way to score long documents, the default first.

    Args:
        options: The options for long documents that were given.
    """
    passages = {**options, "long_documents": "passages"}
    modes: list[dict[str, Any]] = [{}, passages]
    return modes[::-1] if options.get("long_documents") == "passages" else modes
