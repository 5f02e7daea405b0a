"""The settings that the adapters to LangChain and LlamaIndex have in common, as pydantic fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

# Not a dependency of this package, but of both frameworks; only their adapters import this module.
from pydantic import BaseModel, ConfigDict, Field, SecretStr, create_model
from pydantic.json_schema import SkipJsonSchema

from qwen3_reranker.caching import ScoreCache
from qwen3_reranker.embedded.engine_settings import EngineChoice
from qwen3_reranker.errors import OnError
from qwen3_reranker.options import Option, declared
from qwen3_reranker.reranker import Reranker
from qwen3_reranker.scorer_factory import RerankerOptions
from qwen3_reranker.selection import SelectionOptions, TokenCounter

__all__ = ["REASSIGNABLE", "SELECTION", "SETTINGS", "AdapterOptions", "Settings"]

SELECTION = ("top_n", "min_score", *declared(SelectionOptions))
"""The settings that say which documents to keep."""

REASSIGNABLE = frozenset({"instruction", *SELECTION})
"""The settings that may change after the adapter was made."""


class AdapterOptions(SelectionOptions, RerankerOptions, total=False):
    """The settings that both adapters have: how to make a `Reranker`, and what to keep."""

    model: Annotated[str | None, Option()]
    base_url: Annotated[str | list[str] | None, Option()]
    instruction: Annotated[str | None, Option()]
    top_n: Annotated[int | None, Option(3)]
    min_score: Annotated[float | None, Option()]
    max_length: Annotated[int | None, Option(), Field(strict=True)]
    on_error: Annotated[OnError, Option("raise")]
    engine: Annotated[EngineChoice, Option("auto")]
    engine_args: Annotated[dict[str, Any] | None, Option(hidden=True)]
    engine_python: Annotated[str | None, Option()]
    devices: Annotated[list[Annotated[int, Field(strict=True)] | str] | None, Option()]
    check: Annotated[bool, Option(default=True)]
    quiet: Annotated[bool, Option(default=False)]
    returns: Annotated[Literal["document", "passage"], Option("document")]
    cache: Annotated[ScoreCache | None, Option(hidden=True, opaque=True)]
    reranker: Annotated[Reranker | None, Option(hidden=True, opaque=True)]


SETTINGS = declared(AdapterOptions)
"""The annotation and the `Option` of each setting, by its name."""


def _field(name: str, hint: Any, option: Option) -> tuple[Any, Any]:
    """Return the pydantic field of a setting, in the form that `create_model` takes."""
    # LangChain's convention for keys; and the reranker itself checks the others.
    kinds = {"api_key": SecretStr | None, "cache": Any, "aggregate": Any}
    kind = kinds.get(name, hint.__origin__)
    metadata = [part for part in hint.__metadata__ if part is not option]
    if option.opaque:
        metadata.append(SkipJsonSchema())  # type: ignore[type-arg]  # generic in its stub alone
    annotated: Any = Annotated  # for mypy, to which the type would have to be static
    field = Field(
        default=option.default,
        frozen=name not in REASSIGNABLE,
        exclude=option.hidden,
        repr=not option.hidden,
    )
    return annotated[kind, *metadata] if metadata else kind, field


def _rareness(name: str) -> int:
    """Return a sort key: what to score with, then what to keep, then how to score."""
    kinds = SelectionOptions.__annotations__, RerankerOptions.__annotations__
    return next((rank for rank, kind in enumerate(kinds, 1) if name in kind), 0)


if TYPE_CHECKING:

    class Settings(BaseModel):
        """The settings that both adapters have."""

        model: str | None
        instruction: str | None
        top_n: int | None
        min_score: float | None
        drop_duplicates: bool | float
        token_budget: int | None
        token_counter: TokenCounter | None
        cut_last: bool
        returns: Literal["document", "passage"]
        api_key: SecretStr | None
        reranker: Reranker | None

        def __getattr__(self, name: str) -> Any: ...

else:
    Settings = create_model(
        "Settings",
        __config__=ConfigDict(
            arbitrary_types_allowed=True,
            extra="forbid",
            # The messages of this package name the value; pydantic's would print tokens too.
            hide_input_in_errors=True,
            validate_assignment=True,
        ),
        # Those that only some users need come last.
        **{name: _field(name, *SETTINGS[name]) for name in sorted(SETTINGS, key=_rareness)},
        __doc__="The settings that both adapters have.",
    )
