"""Turn JSON-like data into the dataclasses that it was made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from contextlib import suppress
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["decode"]

T = TypeVar("T")


def decode(kind: type[T], data: Any) -> T:
    """
    Return an object of a dataclass, from what `dataclasses.asdict()` makes of it.

    Args:
        kind: A dataclass whose fields are annotated with JSON types, dataclasses, lists, tuples of
            any length and dicts of those, a union of one of those with None, or Any.
        data: The fields by their names.

    Raises:
        ValueError: A field is missing or unknown, or its value has another type.
    """
    hints = _hints(kind)
    if not isinstance(data, dict) or data.keys() != hints.keys():
        keys = sorted(data) if isinstance(data, dict) else data
        raise ValueError(f"{kind.__name__} has the fields {sorted(hints)}, not {keys!r:.200}")
    return kind(**{name: _decoded(hints[name], value, name) for name, value in data.items()})


# Cached, because a list may have many objects of a dataclass.
_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


def _decoded(hint: Any, value: Any, name: str) -> Any:
    """Return a value of the hinted type; `name` is the field's, for messages."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return decode(hint, value)  # type: ignore[arg-type]
    if origin is UnionType:
        if value is None and type(None) in arguments:
            return None
        nested = [kind for kind in arguments if get_origin(kind) or dataclasses.is_dataclass(kind)]
        return _decoded(nested[0], value, name) if nested else _plain(arguments, value, name)
    if origin in (list, tuple) and isinstance(value, (list, tuple)):
        return origin(_decoded(arguments[0], item, name) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _decoded(arguments[1], item, name) for key, item in value.items()}
    return _plain((hint,), value, name)


def _plain(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """Return a value of one of these types; JSON may write a float as a whole number."""
    if Any in kinds or type(value) in kinds:
        return value
    if float in kinds and type(value) is int:
        with suppress(OverflowError):
            return float(value)
    raise ValueError(f"{name} is {value!r:.80}")
