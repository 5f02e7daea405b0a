"""What the adapters to the frameworks share: their settings, and the reranker they hold."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

# Not a dependency of this package, but of both frameworks; only their adapters come here.
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails

from qwen3_reranker.closing import ClosesAtExit
from qwen3_reranker.embedded.interpreter import locate_interpreter
from qwen3_reranker.errors import InputError
from qwen3_reranker.model.checkpoint import locate
from qwen3_reranker.ranking import Hit, validate_limits
from qwen3_reranker.redaction import Secret, conceal
from qwen3_reranker.reranker import Reranker

__all__ = ["ERROR_KEY", "Adapter", "score_of"]

ERROR_KEY = "rerank_error"
"""The metadata's key that marks what `on_error="keep_order"` returned unscored."""

# What the reranker is made from; a ready one has its own.
_MAKING = (
    *("model", "base_url", "max_length", "on_error", "engine", "engine_args", "engine_python"),
    *("check", "quiet", "api_key", "dialect"),
    *("template", "tokenizer", "timeout", "max_concurrency", "max_retries", "headers", "verify"),
    *("proxy", "http_client", "on_unsupported", "cache"),
)


def _setting(default: Any = None, *, hidden: bool = False) -> Any:
    """Return a field that cannot be reassigned, and where it may hold a key is not shown."""
    return Field(default=default, frozen=True, exclude=hidden, repr=not hidden)


class Adapter(BaseModel, ClosesAtExit):
    """
    Settings, a reranker made from them or handed in, and its lifetime.

    A copy or an unpickled one is made anew from the settings, and in one process shares the
    engine. `instruction`, `top_n` and `min_score` may be reassigned.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True,
        extra="forbid",
        # The messages of this package name the value; pydantic's would print tokens too.
        hide_input_in_errors=True,
        validate_assignment=True,
    )
    # Settings that belong to this process: copies share them, pickles leave them out.
    _of_this_process: ClassVar[frozenset[str]] = frozenset({"cache"})

    model: str | None = _setting()
    base_url: str | list[str] | None = _setting()
    instruction: str | None = None
    top_n: int | None = 3
    min_score: float | None = None
    max_length: int | None = Field(default=None, frozen=True, strict=True)
    on_error: Literal["raise", "keep_order"] = _setting("raise")
    api_key: SecretStr | None = _setting(hidden=True)
    dialect: SkipJsonSchema[Any] = _setting("auto")
    template: Literal["auto", "client", "server"] = _setting("auto")
    tokenizer: str | None = _setting()
    timeout: float = _setting(60.0)
    max_concurrency: int = _setting(32)
    max_retries: int = _setting(3)
    headers: dict[str, str] | None = _setting(hidden=True)
    verify: SkipJsonSchema[bool | str | ssl.SSLContext] = _setting(default=True, hidden=True)
    proxy: str | None = _setting(hidden=True)
    http_client: SkipJsonSchema[Any] = _setting(hidden=True)
    on_unsupported: Literal["warn", "raise"] = _setting("warn")
    engine: Literal["auto", "vllm", "transformers"] = _setting("auto")
    engine_args: dict[str, Any] | None = _setting(hidden=True)
    engine_python: str | None = _setting()
    check: bool = _setting(default=True)
    quiet: bool = _setting(default=False)
    cache: SkipJsonSchema[Any] = _setting(hidden=True)
    reranker: SkipJsonSchema[Reranker | None] = _setting(hidden=True)

    _reranker: Reranker = PrivateAttr()

    if not TYPE_CHECKING:  # who check types see the fields as arguments

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
        """Conceal settings that are hidden, and unknown ones: a misspelled `api_key` is a key."""
        return {
            name: value
            if (field := cls.model_fields.get(name)) is not None and field.repr
            else Secret.of(value)
            for name, value in settings.items()
        }

    @field_validator("*", mode="before")
    @classmethod
    def _reveal(cls, value: Any) -> Any:
        return value.reveal() if isinstance(value, Secret) else value

    # As the reranker does with `model`: a copy may be made in another working directory.
    @field_validator("tokenizer", "verify")
    @classmethod
    def _locate(cls, value: Any) -> Any:
        return locate(value) if isinstance(value, str) else value

    @field_validator("engine_python")
    @classmethod
    def _locate_interpreter(cls, engine_python: str | None) -> str | None:
        return None if engine_python is None else locate_interpreter(engine_python)

    @field_validator("top_n", mode="before")
    @classmethod
    def _check_top_n(cls, top_n: Any) -> Any:
        validate_limits(top_n, None)
        return top_n

    @field_validator("min_score", mode="before")
    @classmethod
    def _check_min_score(cls, min_score: Any) -> Any:
        validate_limits(None, min_score)
        return min_score

    def model_post_init(self, _context: Any, /) -> None:
        """Make the reranker, or take the one that was handed in."""
        given = conceal(
            {
                name: getattr(self, name)
                for name in _MAKING
                if getattr(self, name) != type(self).model_fields[name].default
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
        if self.base_url is None:
            # What traces and dumps show, though the field is frozen and the caller did not set it.
            self.__dict__["model"] = self._reranker.model

    def describe(self) -> str:
        """
        Describe the active backend.

        For a server this includes the detected dialect, who writes the template, and the result of
        the probe; detection runs if it has not yet. For an embedded engine it includes the
        checkpoint and `max_length`, and whether the engine is running.

        Raises:
            ServerError: The server cannot be reached or detected.
            CheckpointError: The embedded model is not a Qwen3 reranker.
        """
        return self._reranker.describe()

    async def adescribe(self) -> str:
        """Async version of `describe()`: same text and errors; cancelling ends a detection."""
        return await self._reranker.adescribe()

    def close(self) -> None:
        """Close the reranker that this adapter made; one that was handed in stays open."""
        if self.reranker is None:
            self._reranker.close()

    async def aclose(self) -> None:
        """
        Async version of `close()`: close the reranker that this adapter made.

        One that was handed in stays open.
        """
        if self.reranker is None:
            await self._reranker.aclose()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002
        """
        Return a new adapter with the same settings, except for those in `update`.

        It shares the engine, or the reranker that was handed in, and is closed for itself.
        `update` is validated; `deep` changes nothing.
        """
        update = self._conceal(update or {})
        return type(self)(**{**self._settings(self._of_this_process), **update})

    def copy(  # type: ignore[override]  # pydantic's maps of nested fields have no use here
        self,
        *,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        update: Mapping[str, Any] | None = None,
        deep: bool = False,  # noqa: ARG002
    ) -> Self:
        """
        Return a new adapter, as `model_copy` does: pydantic's deprecated name for it.

        Pydantic's own `copy()` would share the reranker, so that closing the copy closed the
        original.

        Args:
            include: The settings to take over; None takes all of them.
            exclude: Settings to leave at their defaults.
            update: Settings that replace those of this adapter.
            deep: Changes nothing.
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
                "it model= or base_url= with their settings instead, so that it can be made anew"
            )
        settings = self._settings()
        for name in self._of_this_process:
            settings.pop(name, None)
        return partial(type(self), **settings), ()

    def _limits(self) -> dict[str, Any]:
        """Return the keyword arguments of `Reranker.rerank`."""
        return {
            "top_n": self.top_n,
            "min_score": self.min_score,
            "instruction": self.instruction,
        }

    def _settings(self, also: frozenset[str] = frozenset()) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set | also}


def _without_inputs(error: ValidationError) -> ValidationError:
    """Return the error without what was given, which its `errors()` and `json()` would show."""
    details = [
        InitErrorDetails(
            type=found["type"], loc=found["loc"], input="***", ctx=found.get("ctx", {})
        )
        for found in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, details, hide_input=True)


def score_of(hit: Hit) -> float | None:
    """Return the hit's score, None where it has none."""
    return None if math.isnan(hit.score) else hit.score
