"""
A griffe extension: show options as users write them.

Options are declared once, as `name: Annotated[type, Option(default)]` in a `TypedDict`, and reach
the constructors through `Unpack`. The reference shows them as `name: type = default`.
"""

from __future__ import annotations

from typing import Any

import griffe


class Options(griffe.Extension):
    """Simplifies the annotations of options. Listed after `unpack_typeddict`."""

    def __init__(self) -> None:
        """Start without any known options."""
        self._defaults: dict[str, Any] = {}

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Replace the annotations of the attributes, and collect their defaults."""
        self._visit(pkg)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Set the defaults of unpacked options."""
        for parameter in func.parameters:
            if parameter.default == "..." and parameter.name in self._defaults:
                parameter.default = self._defaults[parameter.name]

    def _visit(self, parent: griffe.Module | griffe.Class) -> None:
        for member in parent.members.values():
            if member.is_alias:
                continue
            if isinstance(member, griffe.Module | griffe.Class):
                self._visit(member)
            elif isinstance(member, griffe.Attribute):
                self._simplify(member)

    def _simplify(self, attribute: griffe.Attribute) -> None:
        annotation = attribute.annotation
        if not isinstance(annotation, griffe.ExprSubscript) or str(annotation.left) != "Annotated":
            return
        kind, *metadata = annotation.slice.elements  # type: ignore[union-attr]  # a tuple
        for entry in metadata:
            if isinstance(entry, griffe.ExprCall) and str(entry.function) == "Option":
                attribute.annotation = kind
                self._defaults[attribute.name] = _default(entry)


def _default(option: griffe.ExprCall) -> Any:
    """Return the default that an option has: its first argument or `default=`, otherwise None."""
    for argument in option.arguments:
        if not isinstance(argument, griffe.ExprKeyword):
            return argument
        if argument.name == "default":
            return argument.value
    return "None"
