"""The rerankers of a page, by the model's name and by how long documents are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qwen3_reranker.errors import InputError
from qwen3_reranker.playground.inputs import LongDocuments
from qwen3_reranker.reranker import Reranker

__all__ = ["Models", "long_document_modes"]


class Models:
    """
    The rerankers of a page.

    Args:
        rerankers: The rerankers; the first one is the default. Rerankers of the same model that
            score long documents in different ways are one model of the page. Others of the same
            name get a number.
        explain: Changes the messages of errors for those who see the page. None leaves them as
            they are.

    Attributes:
        explain: The same, as a function.

    Raises:
        InputError: There are none.
    """

    def __init__(
        self, rerankers: Sequence[Reranker], explain: Callable[[str], str] | None = None
    ) -> None:
        if not rerankers:
            raise InputError("create_page() needs at least one Reranker")
        self.explain = explain or str
        self._rerankers: dict[str, dict[LongDocuments, Reranker]] = {}
        for reranker in rerankers:
            number, name = 1, reranker.model
            while reranker.long_documents in self._rerankers.get(name, {}):
                number += 1
                name = f"{reranker.model} ({number})"
            self._rerankers.setdefault(name, {})[reranker.long_documents] = reranker

    @property
    def names(self) -> list[str]:
        """The names of the models, the default one first."""
        return list(self._rerankers)

    @property
    def modes(self) -> list[LongDocuments]:
        """How long documents can be scored, the default first."""
        return list(dict.fromkeys(mode for model in self._rerankers.values() for mode in model))

    def find(self, name: str, mode: LongDocuments | None = None) -> Reranker:
        """
        Return the reranker of a model.

        Args:
            name: The name of the model.
            mode: How it scores long documents. None for any.

        Raises:
            InputError: There is no such model, or it cannot score long documents like that.
        """
        modes = self._rerankers.get(name)
        if modes is None:
            raise InputError(
                f"this page has no model {name!r}: choose one of {', '.join(self.names)}"
            )
        if mode is None:
            return next(iter(modes.values()))
        if mode not in modes:
            raise InputError(f"the model {name} was not started with long_documents={mode!r}")
        return modes[mode]


def long_document_modes(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return the options of one reranker for each way to score long documents, the default first.

    Args:
        options: The options for long documents that were given.
    """
    passages = {**options, "long_documents": "passages"}
    modes: list[dict[str, Any]] = [{}, passages]
    return modes[::-1] if options.get("long_documents") == "passages" else modes
