"""
The interface of a dialect: how to build requests for a server, and how to parse its responses.

A dialect is pure: it builds a JSON body and parses a JSON body, without knowledge of connections,
retries or the template. Its class attributes describe what the server can do.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from qwen3_reranker.errors import AnswerError, InputError

__all__ = [
    "SGLANG_KEY_VARIABLE",
    "VLLM_KEY_VARIABLE",
    "Dialect",
    "HttpRequest",
    "Limits",
    "ScoreRequest",
    "TemplateBy",
    "Text",
    "check_dialect",
    "number",
    "require_list",
    "scores_by_index",
]

VLLM_KEY_VARIABLE = "VLLM_API_KEY"
"""The environment variable that vLLM itself reads its API key from."""

SGLANG_KEY_VARIABLE = "SGLANG_API_KEY"
"""The environment variable that usually holds SGLang's API key."""

Text = str | list[int]
"""A part of a prompt: text, or token ids if the dialect accepts them."""

TemplateBy = Literal["client", "server"]
"""Who writes the Qwen3 template."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """
    A query and documents to score in one request.

    If the client writes the template, `query` is the prompt up to the document, and each of
    `documents` is the rest of a prompt with its suffix, so that `query + document` is the whole
    prompt. If the server writes it, they are plain texts. Control tokens in them are escaped.

    Attributes:
        query: The query.
        documents: The documents, at least one, none of them blank.
        instruction: The instruction for a server that writes the template; None stands for its
            default.
        model: The model's name on the server; None if it is unknown.
        labels: The token ids of "yes" and "no"; None if there is no tokenizer.
    """

    query: Text
    documents: Sequence[Text]
    instruction: str | None = None
    model: str | None = None
    labels: tuple[int, int] | None = None

    def whole(self) -> list[Text]:
        """Return the whole prompt of each document."""
        return [self.query + document for document in self.documents]  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """
    A POST request.

    Attributes:
        body: The JSON body. Entries whose value is None are left out.
        path: The path; None stands for the path of the route.
    """

    body: dict[str, Any]
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The limits of one request. Larger calls are split.

    Attributes:
        documents: The maximum number of documents.
        size: The maximum size of all documents together, in bytes of UTF-8.
        tokens: The maximum number of tokens of all prompts together; None means no limit.
    """

    documents: int = 256
    size: int = 8 * 2**20
    tokens: int | None = None


class Dialect(ABC):
    """
    One endpoint of one kind of server.

    Subclasses set the class attributes and implement `build()` and `parse()`.

    Attributes:
        name: The name for `dialect=`.
        kind: The kind of server that has the endpoint; None if many kinds have it.
        common: Whether servers of unknown kind may have it too.
        paths: The paths of the endpoint. The first is used; the others are equivalent and are tried
            if it does not exist.
        model_in_path: Whether the model's name follows the path.
        ids: Whether prompts may be sent as token ids instead of text.
        template_modes: Who may write the template, the usual one first.
        instruction: Whether a request can carry an instruction for the server's template.
        limits: The limits of one request.
        score: What `parse()` returns: "probability" or "logit".
        counts: Whether `usage()` returns the number of tokens that the model reads.
        generates: Whether it requires a generative model; some servers crash otherwise.
        placeholders: Strings that the server's template replaces with the document, even in the
            query.
        cuts_silently: Whether the server may cut the end of a prompt without reporting an error.
        needs_labels: Whether a request must contain the token ids of "yes" and "no".
        answer_tokens: The number of tokens to leave free at the end of the model's context.
        default_model: The model's name if the user gives none and the server lists none.
        hosts: The domains of a hosted service. Its API key is sent to them and to their subdomains
            only.
        key_variables: Environment variables that may hold the API key, in order of preference.
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
        """
        Build a request.

        Args:
            request: The query and the documents.
        """

    @abstractmethod
    def parse(self, answer: Any, count: int) -> list[float]:
        """
        Parse a response.

        Args:
            answer: The parsed JSON body. It may have any shape.
            count: The number of documents in the request.

        Returns:
            One number per document, in the order of the request.

        Raises:
            AnswerError: The response does not contain exactly one number per document.
        """

    def usage(self, answer: Any) -> int | None:
        """
        Return the number of prompt tokens that a response reports; None if it reports none.

        Args:
            answer: The parsed JSON body.
        """
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return None
        tokens = usage.get("prompt_tokens", usage.get("total_tokens"))
        return tokens if type(tokens) is int and tokens > 0 else None

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"


def check_dialect(dialect: Dialect) -> None:
    """
    Check the class attributes that a dialect must set.

    Raises:
        InputError: The name or the paths are missing or not valid.
    """
    _require(dialect, "name", lambda name: isinstance(name, str) and name, "a str")
    _require(dialect, "paths", _are_paths, "a tuple of str that start with '/', such as ('/rank',)")


def _require(dialect: Dialect, name: str, valid: Callable[[Any], object], example: str) -> None:
    value = getattr(dialect, name, None)
    if not valid(value):
        attribute = f"{type(dialect).__qualname__}.{name}"
        shown = f"={value!r:.80}" if hasattr(dialect, name) else " is missing"
        raise InputError(f"{attribute}{shown}: give {example}")


def _are_paths(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) > 0
        and all(isinstance(path, str) and path.startswith("/") for path in value)
    )


def number(value: Any, what: str) -> float:
    """
    Return a JSON value as a float.

    Args:
        value: The value.
        what: A description of the value, for the message.

    Raises:
        AnswerError: The value is not a finite number.
    """
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer with more than 308 digits
        pass
    raise AnswerError(f"{what} is {value!r:.80}, not a finite number")


def require_list(answer: Any, key: str, count: int | None = None) -> list[Any]:
    """
    Return the list under a key of a response.

    Args:
        answer: The parsed JSON body.
        key: The key.
        count: The number of documents in the request, each of which must have an item in the list.
            None accepts a list of any length.

    Raises:
        AnswerError: There is no such list, or it has the wrong length.
    """
    value = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(value, list):
        raise AnswerError(f"the answer has no list {key!r}: {answer!r:.200}")
    if count is not None and len(value) != count:
        raise AnswerError(f"asked for the scores of {count} documents, got {len(value)}")
    return value


def scores_by_index(items: Iterable[Any], count: int, read: Any = "relevance_score") -> list[float]:
    """
    Return the scores of results in the order of the request, by the "index" of each result.

    Args:
        items: The results: objects with an "index" from 0.
        count: The number of documents in the request.
        read: The key of the score, or a function that returns it for a result.

    Returns:
        One number per document, in the order of the request.

    Raises:
        AnswerError: An index is missing, repeated or out of range, or a score is not a finite
            number.
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
            f"{len(missing)} of {count} documents came back without a score; the first one is "
            f"document {missing[0]}"
        )
    return [score for score in scores if score is not None]
