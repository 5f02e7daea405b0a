"""What a gateway serves and accepts: aliases, limits and keys."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from qwen3_reranker.errors import InputError
from qwen3_reranker.gateway.limits import Limits
from qwen3_reranker.options import declared
from qwen3_reranker.passages.options import LongDocumentOptions, passage_options
from qwen3_reranker.ranking import validate_instruction
from qwen3_reranker.redaction import Secret
from qwen3_reranker.selection import Selection, SelectionOptions

__all__ = ["AliasConfig", "GatewayConfig", "read_config"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasConfig:
    """
    How the documents of a request are scored and selected.

    Args:
        instruction: What makes a document a good match, in one English sentence. None uses that of
            the reranker. A request's own instruction replaces it.
        top_n: Return at most this many documents if a request has no `top_n`, 1 or more. None
            returns all.
        min_score: Return only documents with at least this P(yes), in [0, 1]. None returns all.
            Clients that expect every document, such as Open WebUI, need None.
        selection: Which documents to return besides, see `SelectionOptions`.
        long_documents: How long documents are scored, see `LongDocumentOptions`.

    Raises:
        InputError: A value cannot be used.
        TypeError: An option has an unknown name.
    """

    instruction: str | None = None
    top_n: int | None = None
    min_score: float | None = None
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    long_documents: LongDocumentOptions = field(default_factory=LongDocumentOptions)

    def __post_init__(self) -> None:
        validate_instruction(self.instruction)
        Selection(top_n=self.top_n, min_score=self.min_score, **self.selection)
        passage_options(self.long_documents)

    def inherit(self, default: AliasConfig) -> AliasConfig:
        """Return a copy in which what is not set has the value of another configuration."""
        # Without passages, the options for passages cannot be used.
        cuts = self.long_documents.get("long_documents") == "cut"
        inherited = LongDocumentOptions() if cuts else default.long_documents
        return AliasConfig(
            instruction=default.instruction if self.instruction is None else self.instruction,
            top_n=default.top_n if self.top_n is None else self.top_n,
            min_score=default.min_score if self.min_score is None else self.min_score,
            selection={**default.selection, **self.selection},
            long_documents={**inherited, **self.long_documents},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """
    What a gateway serves and accepts.

    Args:
        model: The name under which the model is listed. None uses the reranker's own.
        default: How requests are scored that name the model, or no model.
        aliases: Further names that a request can give as its model, with how it is scored then.
            What an alias does not set is that of `default`.
        limits: What a request may contain, and how many are accepted at a time.
        keys: The API keys, of which a client has to send one. Empty accepts every client.

    Raises:
        InputError: A name or a key is blank, an alias is named like the model, or `keys` is a
            string.
    """

    model: str | None = None
    default: AliasConfig = field(default_factory=AliasConfig)
    aliases: Mapping[str, AliasConfig] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    keys: tuple[str | Secret, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.keys, str):
            raise InputError("keys= is a string: give a tuple of keys, even of one")
        keys = tuple(secret for key in self.keys if (secret := Secret.of(key)) is not None)
        object.__setattr__(self, "keys", keys)
        if not all(isinstance(key.reveal(), str) and key.reveal().strip() for key in keys):
            raise InputError("an API key is blank: give one, or no keys at all")
        for name in (*self.aliases, *(() if self.model is None else (self.model,))):
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"the name {name!r} is blank: clients could not choose it")
        if self.model in self.aliases:
            raise InputError(f"the alias {self.model!r} is named like the model: rename one")


_LONG_DOCUMENTS = frozenset(declared(LongDocumentOptions))
# A function cannot be written in a file.
_SELECTION = frozenset(declared(SelectionOptions)) - {"token_counter"}
_PLAIN = frozenset({"instruction", "top_n", "min_score"})
_ALIAS = _PLAIN | _SELECTION | _LONG_DOCUMENTS
_LIMITS = frozenset(limit.name for limit in fields(Limits))


def read_config(path: str | Path) -> GatewayConfig:
    """
    Read a configuration file in TOML.

    The keys at its top are those of `AliasConfig`, with the options for selection and for long
    documents beside them, and `model`. There may be a table `limits`, and a table for each alias
    below `aliases`.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read, or a key or a value in it cannot be used. The message
            names the file and the key.

    Example:
        ```toml
        instruction = "Given a question, retrieve passages that answer it"

        [limits]
        max_documents = 200

        [aliases.tickets]
        instruction = "Given a bug report, retrieve reports of the same bug"
        min_score = 0.3
        long_documents = "passages"
        ```
    """
    try:
        table = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give a file that can be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    return _Reader(path).config(table)


@dataclass(frozen=True)
class _Reader:
    """Makes a configuration from the tables of a file, which errors name."""

    path: str | Path

    def config(self, table: dict[str, Any]) -> GatewayConfig:
        self._check_keys("", table, _ALIAS | {"model", "limits", "aliases"})
        aliases = self._table("aliases", table.pop("aliases", {}))
        limits = self._table("limits", table.pop("limits", {}))
        self._check_keys("limits", limits, _LIMITS)
        model = table.pop("model", None)
        if not isinstance(model, str | None):
            raise self._error("model", f"{model!r}: give a string")
        try:
            return GatewayConfig(
                model=model,
                default=self._alias("", table),
                aliases={
                    name: self._alias(f"aliases.{name}", alias) for name, alias in aliases.items()
                },
                limits=self._made("limits", Limits, limits),
            )
        except InputError as error:
            raise self._wrapped("", error) from error

    def _alias(self, name: str, table: Any) -> AliasConfig:
        table = self._table(name, table)
        self._check_keys(name, table, _ALIAS)
        selected = {key: value for key, value in table.items() if key in _SELECTION}
        long = {key: value for key, value in table.items() if key in _LONG_DOCUMENTS}
        plain = {key: value for key, value in table.items() if key in _PLAIN}
        options = plain | {"selection": selected, "long_documents": long}
        return self._made(name, AliasConfig, options)

    def _made(self, name: str, kind: Callable[..., T], arguments: Mapping[str, Any]) -> T:
        try:
            return kind(**arguments)
        except InputError as error:
            raise self._wrapped(name, error) from error

    def _table(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._error(name, f"{value!r}: give a table, [{name}]")
        return value

    def _check_keys(self, name: str, table: Mapping[str, Any], known: frozenset[str]) -> None:
        if unknown := sorted(table.keys() - known):
            full = f"{name}.{unknown[0]}" if name else unknown[0]
            raise self._error(full, f"unknown key: give one of {', '.join(sorted(known))}")

    def _wrapped(self, name: str, error: InputError) -> InputError:
        if str(error).startswith(f"{self.path}: "):
            return error
        return self._error(name, str(error))

    def _error(self, name: str, message: str) -> InputError:
        return InputError(f"{self.path}: {name}: {message}" if name else f"{self.path}: {message}")
