"""Text from documents and servers, made safe to print on a terminal."""

from __future__ import annotations

import re

__all__ = ["escape_control", "escape_json"]

# All control characters but tab and line feed; overrides of the writing direction, which can make
# a line read as another; and lone surrogates, which no terminal's encoding can represent.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_control(text: str) -> str:
    r"""
    Return `text` with control characters written as escapes, such as `\x1b`.

    A terminal would obey them: move the cursor, change the title, or hide what was printed
    before. Tabs and line feeds are kept; a carriage return before a line feed is dropped.
    """
    text = text.replace("\r\n", "\n")
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape_json(text: str) -> str:
    r"""Do the same for a JSON document, in JSON's own escapes: `\u009b`, and the value is the same."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
