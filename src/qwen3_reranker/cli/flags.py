"""Translate messages that name Python arguments (`top_n=3`) into options (`--top-n 3`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from qwen3_reranker.playground.inputs import Inputs

__all__ = ["flags_of", "page_messages", "with_flags"]

# What can follow an argument: a value as Python writes it, or the end of the word. Other programs
# write `name=value` too, so values in any other form are left alone.
_VALUE = (
    r"""(?P<value>'[^']*'|"[^"]*"|\{[^}]*\}|\[[^]]*\]|-?\d+(?:\.\d+)?|None|True|False"""
    r"|(?=[\s,.;:)]|$))"
)
# A quoted value that needs no quotes in a shell.
_PLAIN = re.compile(r"""['"]([\w./:-]+)['"]""")
# Arguments without an option of the same name, and the option that advice about them means.
_OTHERS = {"engine_args": "--eager"}


def flags_of(context: Any) -> dict[str, str]:
    """
    Return the options of a command by their Python names.

    The options of `rerank` are included, because that is where users follow advice about a server.

    Args:
        context: The command's click context. Typer has a class of its own, so there is no common
            type.

    Returns:
        The longest form of each option, such as "--top-n", by its name in Python, such as "top_n".
    """
    commands = [context.command]
    if context.parent is not None:
        commands.append(context.parent.command.commands["rerank"])
    flags: dict[str, str] = {}
    for command in commands:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                # The name of an option that only turns something off is a secondary one.
                names = [name for name in parameter.opts if name.strip()]
                names = names or parameter.secondary_opts
                flags.setdefault(parameter.name.rstrip("_"), max(names, key=len))
    return flags


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """
    Replace the Python arguments in a message by the options that stand for them.

    Args:
        message: A message of the package, with arguments such as `top_n=3`.
        flags: The options by their Python names, as `flags_of` returns them.
    """
    known = {**{name: flag for name, flag in _OTHERS.items() if flag in flags.values()}, **flags}
    names = "|".join(map(re.escape, known))

    def replace(match: re.Match[str]) -> str:
        flag, value = known[match["name"]], match["value"]
        turns_off = flag.startswith("--no-")
        if value == str(turns_off):  # check=True, where the option is --no-check
            return match[0]
        if match["name"] in _OTHERS or not value or value == str(not turns_off):
            return flag
        if value.startswith("{"):  # headers={"Name": ...}, which is --header 'Name: ...'
            inner = re.sub(r"""[{}"']""", "", value)
            return f"{flag} '{inner}'"
        if value.startswith("["):  # devices=[0, 1], which is --devices 0,1
            inner = re.sub(r"[][' ]", "", value)
            return f"{flag} {inner}"
        plain = _PLAIN.fullmatch(value)
        return f"{flag} {plain[1] if plain else value}"

    return re.sub(rf"(?<![\w.-])(?P<name>{names})={_VALUE}", replace, message)


def page_messages(context: Any) -> Callable[[str], str]:
    """
    Return a function that puts a command's options into the messages of the page that it serves.

    What the page itself asks for keeps the name that it has there.

    Args:
        context: The command's click context.
    """
    own = {parameter.name for parameter in context.command.params}
    shown = {field.name for field in fields(Inputs)}
    flags = {name: flag for name, flag in flags_of(context).items() if name in own - shown}
    return partial(with_flags, flags=flags)
