"""Options that several functions take: each is declared, documented and checked in one place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from qwen3_reranker.errors import InputError

__all__ = ["Option", "declared", "document_options", "entries", "resolve_options"]

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Option:
    """
    What the declaration of an option says besides its type.

    Options are the keys of a TypedDict, each with a type such as `Annotated[int, Option(3)]` and an
    entry in the section "Attributes" of its docstring.

    Attributes:
        default: The value of an option that is not given.
        above: The bound of a number, which is not allowed itself.
        hidden: Whether it may hold a secret, and so is left out of reprs and dumps.
        opaque: Whether it may be an object that JSON cannot represent.
    """

    default: Any = None
    above: int | None = None
    hidden: bool = False
    opaque: bool = False


def declared(options: type) -> dict[str, tuple[Any, Option]]:
    """Return the annotation and the `Option` of each key of a TypedDict such as `ServerOptions`."""
    hints = get_type_hints(options, include_extras=True)
    return {
        name: (hint, next(part for part in hint.__metadata__ if isinstance(part, Option)))
        for name, hint in hints.items()
    }


def resolve_options(given: Mapping[str, Any], options: type) -> dict[str, Any]:
    """
    Check the options that were given, and add the defaults of the others.

    Args:
        given: The options by name.
        options: The TypedDict that declares them.

    Raises:
        InputError: A number is out of range or not a number, or a choice is unknown.
        TypeError: An option has an unknown name.
    """
    known = declared(options)
    if unknown := [f"{name}=" for name in given if name not in known]:
        raise TypeError(f"unexpected keyword argument {', '.join(unknown)}")
    for name, value in given.items():
        _check(name, value, *known[name])
    return {name: option.default for name, (_, option) in known.items()} | dict(given)


def document_options(*options: type) -> Callable[[D], D]:
    """
    Return a decorator that documents each option where it is taken.

    It replaces the entry for `**kwargs`, whatever its name, in the docstring of a class or
    function, so that `help()` shows every option.

    Args:
        *options: The TypedDicts whose own entries to show, in order.
    """

    def document(documented: D) -> D:
        if documented.__doc__ is not None:  # it is in `python -OO`
            shown = "\n".join(map(_attributes, options))
            entry = re.compile(r"^( +)\*\*\w+: .*\n(?:\1 +\S.*\n)*", re.MULTILINE)
            documented.__doc__ = entry.sub(
                lambda found: _indent(shown, found[1]), documented.__doc__
            )
        return documented

    return document


def entries(options: type) -> dict[str, str]:
    """Return the entry of each option in a TypedDict's own docstring, on one line, by its name."""
    found = re.findall(r"^(\w+): (.*(?:\n +.*)*)", _attributes(options), re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _attributes(options: type) -> str:
    """Return the entries of a docstring's last section, without their indentation."""
    return inspect.cleandoc((options.__doc__ or "").partition("Attributes:\n")[2])


def _indent(text: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in text.splitlines())


def _check(name: str, value: Any, hint: Any, option: Option) -> None:
    kind = hint.__origin__
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise InputError(f"{name}={value!r}: give one of {', '.join(map(repr, get_args(kind)))}")
    optional = value is None and option.default is None
    if option.above is None or optional:
        return
    number = isinstance(value, int) or (kind is float and isinstance(value, float))
    if not number or isinstance(value, bool) or not value > option.above:  # NaN is not above
        wanted = (
            f"a number of seconds above {option.above}"
            if kind is float
            else f"a whole number of at least {option.above + 1}"
        )
        raise InputError(f"{name}={value!r}: give {wanted}")
