"""Options of commands, made from the declaration of the Python arguments."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from qwen3_reranker.errors import InputError
from qwen3_reranker.options import declared, entries

__all__ = ["with_options", "without_unused_key"]

T = TypeVar("T")


_KEY = ("--api-key", "QWEN3_RERANKER_API_KEY")


def with_options(
    *options: type, panel: str, key: tuple[str, str] = _KEY
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """
    Return a decorator that gives a command the options of TypedDicts such as `ServerOptions`.

    The command takes them as `**kwargs`: those that were given, with the values of the Python
    arguments. An option that cannot be written as text, such as `http_client`, is left out.

    Args:
        *options: The TypedDicts that declare the options, in order. The last one has all of them.
        panel: The heading above the options in the command's help.
        key: The option for `api_key`, and the environment variable that it can also be set with.
    """
    texts = {name: text for declaration in options for name, text in entries(declaration).items()}
    hints = {
        name: _hint(name, hint, texts, panel, key)
        for name, (hint, _) in declared(options[-1]).items()
    }
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in hints.items()
        if hint is not None
    ]

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        @wraps(command)
        def run(**arguments: Any) -> T:
            for parameter in parameters:
                value = arguments.pop(parameter.name)
                if value is not None:
                    parse = _PARSERS.get(parameter.name)
                    arguments[parameter.name] = value if parse is None else parse(value)
            return command(**arguments)

        signature = inspect.signature(command, eval_str=True)
        others = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        changed = signature.replace(parameters=[*others, *parameters])
        run.__signature__ = changed  # type: ignore[attr-defined]  # read by `inspect.signature`
        run.__annotations__ = {p.name: p.annotation for p in changed.parameters.values()}
        return run

    return decorate


def without_unused_key(
    options: Mapping[str, Any], base_url: Sequence[str] | None, variable: str = _KEY[1]
) -> dict[str, Any]:
    """
    Return a command's options without an API key that no server needs.

    A key in the environment may be meant for other calls. One on the command line is kept, and is
    an error without a server.

    Args:
        options: The options that were given.
        base_url: The servers. None for an embedded engine.
        variable: The environment variable that the key can be set with.
    """
    unused = not base_url and options.get("api_key") == os.environ.get(variable)
    return {name: value for name, value in options.items() if not (unused and name == "api_key")}


def _hint(name: str, hint: Any, texts: Mapping[str, str], panel: str, key: tuple[str, str]) -> Any:
    """Return the annotation of the option for a Python argument; None if it cannot be text."""
    kind = _kind(hint.__origin__)
    if kind is None:
        return None
    # The first sentence of an entry; the others are about Python. `python -OO` has no entries.
    text = re.split(r"(?<=\.) ", texts.get(name, ""), maxsplit=1)[0]
    text = re.sub('[`"]', "", text)
    settings: dict[str, Any] = {"help": text, "rich_help_panel": panel}
    names: tuple[str, ...] = ()
    if name == "api_key":
        names, settings["envvar"] = key[:1], key[1]
    elif name == "dialect":
        settings["autocompletion"] = _dialect_names
    elif name == "headers":
        names = ("--header",)
        settings["help"] += " Each is 'Name: value'; repeat the option for more."
    return Annotated[kind | None, typer.Option(*names, **settings)]


def _kind(hint: Any) -> Any:
    """Return the type that the command line reads for a Python type; None for none."""
    if get_origin(hint) is Literal:
        return hint
    kinds = get_args(hint) or (hint,)
    if choices := [kind for kind in kinds if get_origin(kind) is Literal]:
        return choices[0]
    if any(get_origin(kind) is Mapping for kind in kinds):
        return list[str]
    return next((kind for kind in (str, int, float) if kind in kinds), None)


def _dialect_names() -> list[str]:
    from qwen3_reranker.dialects import dialects

    return ["auto", *(dialect.name for dialect in dialects())]


def _parse_headers(headers: Sequence[str]) -> dict[str, str]:
    """
    Return the headers that were written as "Name: value", by name.

    Raises:
        InputError: A value has no colon. The message does not repeat it, because it may be a key.
    """
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise InputError("--header needs the form 'Name: value'")
        parsed[name.strip()] = value.strip()
    return parsed


def _parse_verify(value: str) -> bool | str:
    """Return whether to verify certificates, or the path of a file with authorities."""
    return {"true": True, "false": False}.get(value.lower(), value)


_PARSERS: Mapping[str, Callable[[Any], Any]] = {"headers": _parse_headers, "verify": _parse_verify}
