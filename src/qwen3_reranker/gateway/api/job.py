"""What a request asks for, whatever the API that it is written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from qwen3_reranker.gateway.api.validation import TextDocument
from qwen3_reranker.gateway.errors import GatewayError
from qwen3_reranker.ranking import Hit, Ranking

__all__ = [
    "Document",
    "InstructedBody",
    "Job",
    "finite_logit",
    "text_of",
    "texts_of",
]

# The log-odds of a blank document are -inf, which JSON cannot represent.
_LOWEST = -1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What a request asks for.

    Attributes:
        model: The model or alias that the client named; None if it named none.
        queries: Each query with its documents.
        instruction: The request's own instruction; None if it has none.
        top_n: How many documents to return at most. None returns those of the alias.
        selects: Whether the alias may leave documents out, which an API of plain scores does not
            allow.
        render: Returns the answer's body for the ranking of each query and the model's name.
    """

    model: str | None
    queries: Sequence[tuple[str, Sequence[str]]]
    instruction: str | None
    top_n: int | None = None
    selects: bool = True
    render: Callable[[Sequence[Ranking], str], Any]

    @property
    def document_count(self) -> int:
        """The number of documents of all queries."""
        return sum(len(documents) for _, documents in self.queries)

    @property
    def character_count(self) -> int:
        """The number of characters in all texts."""
        texts = sum(len(q) + sum(map(len, documents)) for q, documents in self.queries)
        return texts + len(self.instruction or "")


Document = str | TextDocument


class InstructedBody(BaseModel):
    """The fields that the bodies of all APIs have. Unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(
        None, description="The model or an alias, as `/v1/models` lists them. Null is the model."
    )
    instruction: str | None = Field(
        None,
        description="What makes a document a good match, in one English sentence. It replaces the "
        "instruction of the alias.",
    )
    instruct: str | None = Field(None, description="Another name of `instruction`.")
    kwargs: dict[str, Any] | str | None = Field(
        None, description="Xinference: a JSON object, or one in a string, with `instruction`."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="vLLM: an object with `instruction`."
    )

    def chosen_instruction(self) -> str | None:
        """
        Return the instruction under any of its names; None if there is none, or a blank one.

        Raises:
            GatewayError: `kwargs` is not a JSON object, or an instruction is not a string.
        """
        nested: list[Any] = []
        for name, options in (
            ("kwargs", self._parsed_kwargs()),
            ("chat_template_kwargs", self.chat_template_kwargs or {}),
        ):
            for key in ("instruction", "instruct"):
                if (value := options.get(key)) is not None:
                    if not isinstance(value, str):
                        raise GatewayError(422, f"{name}.{key}: give a string")
                    nested.append(value)
        return next(
            (i for i in (self.instruction, self.instruct, *nested) if i and i.strip()), None
        )

    def _parsed_kwargs(self) -> dict[str, Any]:
        if not isinstance(self.kwargs, str):
            return self.kwargs or {}
        if not self.kwargs.strip():
            return {}
        try:
            parsed = orjson.loads(self.kwargs)
        except orjson.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise GatewayError(422, "kwargs: give a JSON object in a string")
        return parsed


def text_of(document: Document) -> str:
    """Return the text of a document."""
    return document if isinstance(document, str) else document.text


def texts_of(documents: Sequence[Document]) -> list[str]:
    """Return the texts of documents."""
    return [text_of(document) for document in documents]


def finite_logit(hit: Hit) -> float:
    """Return the log-odds of a document as a number that JSON can represent."""
    return max(hit.logit, _LOWEST)
