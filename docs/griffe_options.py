"""
A griffe extension: show options as users write them.

Options are declared once, as `name: Annotated[type, Option(default)]` in a `TypedDict`, and reach
functions through `**options: Unpack[...]`. The reference shows each of them as a parameter
`name: type = default`, with the description that the `TypedDict` gives it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import griffe

# The entry of `**options` in the section "Args" of a docstring.
_ENTRY = re.compile(r"^( +)\*\*\w+: .*\n(?:\1 +\S.*\n?)*", re.MULTILINE)


class Options(griffe.Extension):
    """Replaces `**options: Unpack[...]` by the options of the `TypedDict`."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Show the options of all functions of a package, when it has been loaded completely."""
        self._visit(pkg)

    def _visit(self, parent: griffe.Module | griffe.Class) -> None:
        for member in parent.members.values():
            if member.is_alias:
                continue
            if isinstance(member, griffe.Module | griffe.Class):
                self._visit(member)
            elif isinstance(member, griffe.Function):
                _expand(member)
            elif isinstance(member, griffe.Attribute) and (option := _option(member)):
                member.annotation = option[0]


def _expand(function: griffe.Function) -> None:
    """Replace the parameter `**options` of a function, and its entry in the docstring."""
    for parameter in list(function.parameters):
        annotation = parameter.annotation
        if (
            parameter.kind is griffe.ParameterKind.var_keyword
            and isinstance(annotation, griffe.ExprSubscript)
            and str(annotation.left) == "Unpack"
        ):
            options = function.modules_collection[annotation.slice.canonical_path]
            del function.parameters[parameter.name]
            for name, kind, default in _declared(options):
                function.parameters.add(
                    griffe.Parameter(
                        name,
                        annotation=kind,
                        kind=griffe.ParameterKind.keyword_only,
                        default=default,
                    )
                )
            constructor = function.name == "__init__"
            docstring = (function.parent if constructor else function).docstring  # type: ignore[union-attr]
            if docstring is not None:
                _describe(docstring, options)


def _declared(options: griffe.Class) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the type and the default of each option, those of base classes last."""
    for declaring in (options, *options.mro()):
        for member in declaring.members.values():
            if isinstance(member, griffe.Attribute) and (option := _option(member)):
                yield member.name, *option


def _option(attribute: griffe.Attribute) -> tuple[Any, Any] | None:
    """Return the type and the default of an option; None if the attribute is no option."""
    annotation = attribute.annotation
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) == "Annotated":
        kind, *metadata = annotation.slice.elements  # type: ignore[union-attr]  # a tuple
        for entry in metadata:
            if isinstance(entry, griffe.ExprCall) and str(entry.function) == "Option":
                attribute.extra["options"]["declared"] = kind, _default(entry)
    return attribute.extra["options"].get("declared")


def _default(option: griffe.ExprCall) -> Any:
    """Return the default that an option has: its first argument or `default=`, otherwise None."""
    for argument in option.arguments:
        if not isinstance(argument, griffe.ExprKeyword):
            return argument
        if argument.name == "default":
            return argument.value
    return "None"


def _describe(docstring: griffe.Docstring, options: griffe.Class) -> None:
    """Replace the entry of `**options` by those of the options, as `document_options()` does."""
    described = [
        inspect.cleandoc(declaring.docstring.value.partition("Attributes:\n")[2])
        for declaring in (options, *options.mro())
        if declaring.docstring is not None
    ]
    shown = "\n".join(filter(None, described)).splitlines()
    docstring.value = _ENTRY.sub(
        lambda found: "".join(f"{found[1]}{line}\n" for line in shown), docstring.value
    )
