"""The base class of the adapters to LangChain and LlamaIndex."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

# Not a dependency of this package, but of both frameworks; only their adapters import this module.
from pydantic import PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails

from qwen3_reranker.closing import ClosesAtExit
from qwen3_reranker.embedded.interpreter import locate_interpreter
from qwen3_reranker.errors import InputError
from qwen3_reranker.integration.marks import as_returned
from qwen3_reranker.integration.settings import REASSIGNABLE, SELECTION, SETTINGS, Settings
from qwen3_reranker.model.checkpoint import locate
from qwen3_reranker.ranking import Hit
from qwen3_reranker.redaction import Secret, conceal
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.selection import Selection
from qwen3_reranker.tracing import Call, Framework, traced
from qwen3_reranker.usage import Stats

__all__ = ["Adapter", "as_list"]

T = TypeVar("T")


class Adapter(Settings, ClosesAtExit):
    """
    The settings, a reranker that is made from them or handed in, and its lifetime.

    A copy or an unpickled adapter is created from the settings and, in the same process, shares
    the engine. `instruction` and the settings that select documents can be reassigned.
    """

    # Settings that belong to this process: copies share them, pickles leave them out.
    _of_this_process: ClassVar[frozenset[str]] = frozenset({"cache"})

    _framework: ClassVar[Framework]

    _reranker: Reranker = PrivateAttr()

    if not TYPE_CHECKING:  # the adapters declare their constructors for type checkers

        def __init__(self, **settings: Any) -> None:
            # First of all, so that no traceback of what follows shows a key.
            settings = self._conceal(settings)
            try:
                super().__init__(**settings)
            except ValidationError as error:
                refusal = _without_inputs(error)
            else:
                return
            # Outside of the handler, or the error with the inputs would be its context.
            raise refusal

        def __setattr__(self, name: str, value: Any) -> None:
            value = self._conceal({name: value})[name]
            try:
                super().__setattr__(name, value.reveal() if isinstance(value, Secret) else value)
            except ValidationError as error:
                refusal = _without_inputs(error)
            else:
                return
            raise refusal

    @classmethod
    def _conceal(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Conceal hidden settings, and unknown ones: a misspelled `api_key` holds a key, too."""
        return {
            name: value
            if (field := cls.model_fields.get(name)) is not None and field.repr
            else Secret.of(value)
            for name, value in settings.items()
        }

    @field_validator(*SELECTION, mode="before")
    @classmethod
    def _check_selection(cls, value: Any, info: ValidationInfo) -> Any:
        Selection(**{str(info.field_name): value})
        return value

    # Pydantic runs this validator first, since it is defined after the one above.
    @field_validator("*", mode="before")
    @classmethod
    def _reveal(cls, value: Any) -> Any:
        return value.reveal() if isinstance(value, Secret) else value

    # A copy may be made in another working directory. The reranker does the same with `model`.
    @field_validator("tokenizer", "verify")
    @classmethod
    def _locate(cls, value: Any) -> Any:
        return locate(value) if isinstance(value, str) else value

    @field_validator("engine_python")
    @classmethod
    def _locate_interpreter(cls, engine_python: str | None) -> str | None:
        return None if engine_python is None else locate_interpreter(engine_python)

    def model_post_init(self, _context: Any, /) -> None:
        """Make the reranker, or use the one that was handed in."""
        given = conceal(
            {
                name: value
                for name, (_, option) in SETTINGS.items()
                if name not in REASSIGNABLE | {"reranker", "returns"}
                and (value := getattr(self, name)) != option.default
            }
        )
        if self.reranker is None:
            if self.api_key is not None:
                given["api_key"] = Secret(self.api_key.get_secret_value())
            self._reranker = Reranker(**given)
        elif given:
            raise InputError(
                f"reranker= is given, and {', '.join(sorted(given))} too: the ready reranker has "
                "its own"
            )
        else:
            self._reranker = self.reranker
        if self.returns == "passage" and self._reranker.long_documents != "passages":
            raise InputError(
                "returns='passage' is possible only where documents are divided into passages: "
                "give long_documents='passages' too, to the reranker if one is given"
            )
        if self.base_url is None:
            # For traces and dumps, though the field is frozen and the caller did not set it.
            self.__dict__["model"] = self._reranker.model

    def describe(self) -> str:
        """
        Describe what this adapter scores with, to print or to log.

        For a server the text names its URL, the detected dialect and who writes the prompt
        template; an unknown server is detected first. For an embedded engine it names the
        checkpoint and `max_length`, and says whether the engine is running.

        Raises:
            ServerError: The server cannot be reached or detected.
            CheckpointError: The embedded model is not a Qwen3 reranker.
        """
        return self._reranker.describe()

    async def adescribe(self) -> str:
        """
        Describe what this adapter scores with; the async version of `describe()`.

        Returns the same text and raises the same errors. Canceling the awaiting task stops a
        detection that it began.
        """
        return await self._reranker.adescribe()

    def stats(self) -> Stats:
        """
        Return what all calls of this adapter's reranker cost so far, and what its backends did.

        A `reranker` that was handed in also counts the calls that others make with it. This can be
        called from any thread and at any time; it waits for nothing.

        Returns:
            A snapshot: the queries, documents, tokens, failures and seconds of the calls that have
            ended, for each server the same with its back-off, and for each embedded engine the same
            with its restarts.
        """
        return self._reranker.stats()

    def close(self) -> None:
        """
        Close the reranker that this adapter made, and release its engine.

        A reranker that was handed in stays open.
        """
        if self.reranker is None:
            self._reranker.close()

    async def aclose(self) -> None:
        """
        Close the reranker that this adapter made; the async version of `close()`.

        A reranker that was handed in stays open.
        """
        if self.reranker is None:
            await self._reranker.aclose()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """
        Return a new adapter with the same settings, except for those in `update`.

        The copy shares the engine, or the reranker that was handed in, but is closed separately.

        Args:
            update: Settings to replace. They are validated, unlike by pydantic's own method.
            deep: Has no effect.

        Raises:
            pydantic.ValidationError: A setting in `update` is unknown or cannot be used.
        """
        update = self._conceal(update or {})
        return type(self)(**{**self._settings(self._of_this_process), **update})

    def copy(  # type: ignore[override]  # pydantic also takes maps of nested fields
        self,
        *,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        update: Mapping[str, Any] | None = None,
        deep: bool = False,  # noqa: ARG002
    ) -> Self:
        """
        Return a new adapter, like `model_copy()`, of which this is pydantic's deprecated form.

        Pydantic's own `copy()` would share the reranker, so that closing the copy would close the
        original.

        Args:
            include: The settings to copy. None copies all of them.
            exclude: Settings to leave at their defaults.
            update: Settings to replace. They are validated.
            deep: Has no effect.

        Raises:
            pydantic.ValidationError: A setting in `update` is unknown or cannot be used.
        """
        update = self._conceal(update or {})
        settings = {
            name: value
            for name, value in self._conceal(self._settings(self._of_this_process)).items()
            if (include is None or name in include) and name not in (exclude or ())
        }
        return type(self)(**{**settings, **update})

    def __copy__(self) -> Self:
        return self.model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        if self.reranker is not None:
            raise TypeError(
                f"a {type(self).__name__} that was handed a ready reranker cannot be pickled: give "
                "it model= or base_url= with their settings instead, so that it can be recreated"
            )
        settings = self._settings()
        for name in self._of_this_process:
            settings.pop(name, None)
        return partial(type(self), **settings), ()

    # These are not abstract, or LlamaIndex would make each call of them a span.

    def _id(self, item: Any) -> str | None:
        """Return the identifier of a document or node."""
        raise NotImplementedError

    def _content(self, item: Any) -> str:
        """Return the text of a document or node, without its metadata."""
        raise NotImplementedError

    def _shown(self, item: Any, hit: Hit) -> str:  # noqa: ARG002
        """Return what a language model reads of a document or node that has the hit's text."""
        return hit.text

    @contextmanager
    def _call(
        self, items: Sequence[Any], query: str, texts: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """
        Trace the block, and yield the keyword arguments of the `Reranker.rerank` that it calls.

        Args:
            items: The documents or nodes.
            query: The question or search text.
            texts: The text to score of each of them.
        """
        returns = self.returns
        arguments = {
            "query": query,
            "documents": texts,
            **{name: getattr(self, name) for name in SELECTION},
            "instruction": self.instruction,
            # There, part of a document is what is wanted.
            "cut_last": self.cut_last or returns == "passage",
            "as_returned": lambda hit: as_returned(hit, self._content(items[hit.index]), returns),
            "shown": lambda hit: self._shown(items[hit.index], hit),
        }
        call = Call(
            query,
            texts,
            lambda: self._reranker.model,
            self.top_n,
            lambda index: self._id(items[index]),
        )
        with traced(self._framework, call):
            yield arguments

    def _settings(self, also: frozenset[str] = frozenset()) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set | also}


def as_list(name: str, items: Iterable[T]) -> list[T]:
    """
    Return a new list of items; the caller's may change while scores are awaited.

    Args:
        name: The argument's name, for messages.
        items: The documents or nodes.

    Raises:
        InputError: They are not several, but one object such as a text or a dictionary.
    """
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise InputError(f"{name} must be a list, not one {type(items).__name__}")
    return list(items)


def _without_inputs(error: ValidationError) -> ValidationError:
    """Return the error without the inputs, which its `errors()` and `json()` would show."""
    details = [
        InitErrorDetails(
            type=detail["type"], loc=detail["loc"], input="***", ctx=detail.get("ctx", {})
        )
        for detail in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, details, hide_input=True)
