"""Build HTML in which every text is escaped."""

from __future__ import annotations

from html import escape

from qwen3_reranker.terminal import escape_control

__all__ = ["Html", "join", "tag"]


class Html(str):
    """Text that is HTML already. Any other text is escaped where it is put into a tag."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str) -> Html:
    """
    Return an element.

    Args:
        name: The tag's name.
        *content: What it contains; texts that are not `Html` are escaped.
        **attributes: The attributes. An underscore in a name stands for a hyphen, and one at its
            end is left out: `class_`.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: str) -> Html:
    """Return contents one after the other; texts that are not `Html` are escaped."""
    return Html("".join(c if isinstance(c, Html) else _escaped(c) for c in content))


def _escaped(text: str) -> str:
    # A browser would obey overrides of the writing direction, and UTF-8 has no lone surrogates.
    return escape(escape_control(text))
