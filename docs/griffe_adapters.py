"""
A griffe extension: give the adapters the signature that pydantic makes from their fields.

mkdocs reads the source without importing it, so it does not see that signature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import griffe

_ADAPTERS = ("langchain.Qwen3Rerank", "llama_index.Qwen3Rerank")


class AdapterSignatures(griffe.Extension):
    """Adds an `__init__` to both `Qwen3Rerank` classes."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Add the signatures once the package is loaded."""
        for name in _ADAPTERS:
            adapter = pkg[name]
            fields = [*_fields(pkg["integration.Adapter"]), *_fields(adapter)]
            parameters = griffe.Parameters(griffe.Parameter("self"), *map(_parameter, fields))
            adapter.set_member("__init__", griffe.Function("__init__", parameters=parameters))


def _fields(owner: griffe.Class) -> Iterator[griffe.Attribute]:
    for member in owner.members.values():
        public = member.is_attribute and not member.name.startswith("_")
        if public and "ClassVar" not in str(member.annotation) and member.name != "model_config":
            yield member


def _parameter(field: griffe.Attribute) -> griffe.Parameter:
    return griffe.Parameter(
        field.name,
        annotation=_without_schema_marker(field.annotation),
        kind=griffe.ParameterKind.keyword_only,
        default=_default(field.value),
    )


def _without_schema_marker(annotation: Any) -> Any:
    """Return what `SkipJsonSchema[...]` holds, and any other annotation as it is."""
    marked = isinstance(annotation, griffe.ExprSubscript)
    return annotation.slice if marked and str(annotation.left) == "SkipJsonSchema" else annotation


def _default(value: Any) -> Any:
    """Return the default that a call such as `Field(default=3)` sets, and any other value as it is."""
    if not isinstance(value, griffe.ExprCall):
        return value
    for argument in value.arguments:
        if isinstance(argument, griffe.ExprKeyword):
            if argument.name == "default":
                return argument.value
        else:
            return argument
    return "None"
