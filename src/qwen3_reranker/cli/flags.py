"""Messages that name a Python argument (`top_n=3`), told in the command's options (`--top-n 3`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["flags_of", "with_flags"]

# What an argument may be followed by: a value as Python writes it, or the end of the word. Others
# write `name=value` too, so a value in any other form is left alone.
_VALUE = r"""(?P<value>'[^']*'|"[^"]*"|\{[^}]*\}|-?\d+(?:\.\d+)?|None|True|False|(?=[\s,.;:)]|$))"""
# A quoted value that a shell takes without its quotes.
_PLAIN = re.compile(r"""['"]([\w./:-]+)['"]""")
# Arguments without an option of the same name, where one option does what advice wants of them.
_OTHERS = {"engine_args": "--eager"}


def flags_of(context: Any) -> dict[str, str]:
    """
    Return the options of a command by their Python names, those of `rerank` behind its own.

    Advice about a server is followed in a call of the reranker, so `rerank` has an option for it.

    Args:
        context: The command's click context (Typer has one of its own, so it has no common type).
    """
    commands = [context.command]
    if context.parent is not None:
        commands.append(context.parent.command.commands["rerank"])
    flags: dict[str, str] = {}
    for command in commands:
        for parameter in command.params:
            if parameter.param_type_name == "option":
                # An option that only turns something off has its name among the secondary ones.
                names = [name for name in parameter.opts if name.strip()]
                names = names or parameter.secondary_opts
                flags.setdefault(parameter.name.rstrip("_"), max(names, key=len))
    return flags


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """Return a message with Python arguments replaced by the options that stand for them."""
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
        plain = _PLAIN.fullmatch(value)
        return f"{flag} {plain[1] if plain else value}"

    return re.sub(rf"(?<![\w.-])(?P<name>{names})={_VALUE}", replace, message)
