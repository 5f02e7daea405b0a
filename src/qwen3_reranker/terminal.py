"""Make text from documents and servers safe to print on a terminal."""

from __future__ import annotations

import re

__all__ = ["escape_control", "escape_json"]

# All control characters except tab and line feed; overrides of the writing direction, which can
# disguise a line as another; and lone surrogates, which no terminal's encoding can represent.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_control(text: str) -> str:
    r"""
    Return the text with control characters replaced by escapes such as `\x1b`.

    A terminal would obey control characters: move the cursor, change the title, or hide earlier
    output. Tabs and line feeds are kept. A carriage return before a line feed is removed.
    """
    text = text.replace("\r\n", "\n")
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape_json(text: str) -> str:
    r"""Return a JSON document with control characters replaced by escapes such as `\u009b`."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
