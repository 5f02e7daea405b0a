"""
The contract of a dialect: what one kind of server wants to be sent, and how its answer is read.

A dialect is pure: it builds a JSON body and reads a JSON answer, and knows nothing of
connections, retries or the template. Its class attributes say what the server can do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from qwen3_reranker.errors import AnswerError

__all__ = [
    "SGLANG_KEY_VARIABLE",
    "VLLM_KEY_VARIABLE",
    "Dialect",
    "HttpRequest",
    "Limits",
    "ScoreRequest",
    "TemplateBy",
    "Text",
    "number",
    "require_list",
    "scores_by_index",
]

VLLM_KEY_VARIABLE = "VLLM_API_KEY"
"""The environment variable that vLLM itself reads its API key from."""

SGLANG_KEY_VARIABLE = "SGLANG_API_KEY"
"""The environment variable that usually holds SGLang's API key."""

Text = str | list[int]
"""A piece of a prompt: text, or token ids where the dialect takes them."""

TemplateBy = Literal["client", "server"]
"""Who writes the Qwen3 template."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """
    The work of one request.

    Where the client writes the template, `query` is the prompt up to the document and each of
    `documents` the rest, suffix included, so that `query + document` is the whole prompt. Where
    the server writes it they are the plain texts. Control tokens in user text are harmless.

    Attributes:
        query: The query.
        documents: The documents, 1 or more, none of them blank.
        instruction: For a server that writes the template; None takes its default.
        model: The name that the server knows the model by; None where that is not known.
        labels: The ids of "yes" and "no"; None where no tokenizer is at hand.
    """

    query: Text
    documents: Sequence[Text]
    instruction: str | None = None
    model: str | None = None
    labels: tuple[int, int] | None = None

    def whole(self) -> list[Text]:
        """Return each document's whole prompt."""
        return [self.query + document for document in self.documents]  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to POST: a JSON body (a None in it is left out), and a path if not the dialect's first."""

    body: dict[str, Any]
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one request may hold; more is split.

    Attributes:
        documents: The most documents.
        size: The most bytes of the documents, as UTF-8 text.
        tokens: The most tokens of all prompts, None for no limit of its own.
    """

    documents: int = 256
    size: int = 8 * 2**20
    tokens: int | None = None


class Dialect(ABC):
    """
    One endpoint of one kind of server.

    Attributes:
        name: What `dialect=` calls it.
        kind: The kind of server that has it, None where many have.
        common: Whether servers of other kinds may have it too.
        paths: Where it is served; the first is posted to, the others are the same by other names.
        model_in_path: Whether the model's name follows the path.
        ids: Whether token ids may be sent instead of text.
        template_modes: Who may write the template, the usual one first.
        instruction: Whether a request can carry an instruction to a server's template.
        limits: What one request may hold.
        score: What `parse` returns: "probability", or "logit" for log-odds.
        counts: Whether `usage` counts the tokens of the prompts as the model reads them.
        generates: Whether it requires a generative model; some servers crash otherwise.
        placeholders: What the server's template replaces with the document, even in the query.
        cuts_silently: Whether a prompt that is too long may be cut at its end without an error.
        needs_labels: Whether a request must name the ids of "yes" and "no".
        answer_tokens: So many tokens of the model's length are for an answer.
        default_model: The model's name where the user gives none and the server lists none.
        hosts: The domains of a hosted service; they and what is below them alone get its key.
        key_variables: Environment variables that hold the key, the first that is set.
    """

    name: ClassVar[str]
    kind: ClassVar[str | None] = None
    common: ClassVar[bool] = False
    paths: ClassVar[tuple[str, ...]]
    model_in_path: ClassVar[bool] = False
    ids: ClassVar[bool] = False
    template_modes: ClassVar[tuple[TemplateBy, ...]] = ("server",)
    instruction: ClassVar[bool] = False
    limits: ClassVar[Limits] = Limits()
    score: ClassVar[Literal["probability", "logit"]] = "probability"
    counts: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    placeholders: ClassVar[tuple[str, ...]] = ()
    cuts_silently: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    answer_tokens: ClassVar[int] = 0
    default_model: ClassVar[str | None] = None
    hosts: ClassVar[tuple[str, ...]] = ()
    key_variables: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def build(self, request: ScoreRequest) -> HttpRequest:
        """Return what to post."""

    @abstractmethod
    def parse(self, answer: Any, count: int) -> list[float]:
        """
        Return one number a document, in the order asked.

        Raises:
            AnswerError: The answer has another shape, or not exactly one number a document.
        """

    def usage(self, answer: Any) -> int | None:
        """Return how many prompt tokens the answer says it took, None where it does not say."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return None
        tokens = usage.get("prompt_tokens", usage.get("total_tokens"))
        return tokens if type(tokens) is int and tokens > 0 else None

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"


def number(value: Any, what: str) -> float:
    """Return `value` as a float; raise `AnswerError` unless it is a finite number."""
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        pass
    raise AnswerError(f"{what} is {value!r:.80}, not a finite number")


def require_list(answer: Any, key: str) -> list[Any]:
    """Return the list under `key` of an answer; raise `AnswerError` where there is none."""
    found = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise AnswerError(f"the answer has no list {key!r}: {answer!r:.200}")
    return found


def scores_by_index(items: Iterable[Any], count: int, read: Any = "relevance_score") -> list[float]:
    """
    Return the numbers of `items` in the order asked, by each item's "index".

    Args:
        items: Objects with an "index" from 0.
        count: How many documents were asked for.
        read: The key of the number, or a function of the item that returns it.

    Raises:
        AnswerError: An index is missing, twice there or out of range, or a number is none.
    """
    scores: list[float | None] = [None] * count
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if isinstance(index, bool) or not isinstance(index, int):
            raise AnswerError(f"a result has no index: {item!r:.200}")
        if not 0 <= index < count:
            raise AnswerError(f"a result has the index {index}; {count} documents were sent")
        if scores[index] is not None:
            raise AnswerError(f"two results have the index {index}")
        value = read(item) if callable(read) else item.get(read)
        scores[index] = number(value, f"the score of document {index}")
    missing = [index for index, score in enumerate(scores) if score is None]
    if missing:
        raise AnswerError(
            f"{len(missing)} of {count} documents came back without a score, the first of them "
            f"document {missing[0]}"
        )
    return [score for score in scores if score is not None]
