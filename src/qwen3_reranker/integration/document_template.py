"""The template that makes the text to score of a LangChain document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from string import Formatter
from typing import Any

from qwen3_reranker.errors import InputError

__all__ = ["fill_template", "validate_template"]


def validate_template(template: str) -> None:
    """
    Check a template.

    Raises:
        InputError: It has no {field}, or one that is not a plain name.
    """
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise InputError(
            f"document_template={template!r} cannot be read: {error}. Write {{{{ and }}}} for "
            "braces that are text"
        ) from None
    if not fields:
        raise InputError(
            f"document_template={template!r} names no field, so all documents would be equal: "
            'give one such as "{title}\\n{page_content}"'
        )
    for _, name, spec, conversion in fields:
        # No attributes or items, because a template may come from a file that others write, and no
        # format specs, because they fail on the empty string that stands for a missing key.
        plain = name and name == name.strip() and not name.isdigit() and not set(name) & set(".[]")
        if not plain or spec or conversion:
            raise InputError(
                f"document_template={template!r} has the field {name!r}: a field is "
                "{page_content} or the {key} of a metadata value, without attribute, item, "
                "conversion or format"
            )


def fill_template(template: str, page_content: str, metadata: Mapping[str, Any]) -> str:
    """
    Return the text to score.

    Args:
        template: A template that `validate_template()` accepts.
        page_content: Replaces {page_content}.
        metadata: Its values replace the fields of their names. A missing key or a value of None
            gives an empty string.
    """
    values: defaultdict[str, Any] = defaultdict(str)
    values.update((key, value) for key, value in metadata.items() if value is not None)
    values["page_content"] = page_content
    return template.format_map(values)
