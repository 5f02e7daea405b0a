"""
Writes YAML: as little of it as a compose file needs, and as every reader of YAML understands it.

PyYAML would do for itself: it writes 1e3 without quotes, a text in YAML 1.1 and a number in the
YAML 1.2 that compose reads, and a template as one long quoted line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Value", "dump"]

Value = str | int | bool | None | Sequence["Value"] | Mapping[str, "Value"]

# Texts that no reader takes for a number, a truth, nothing or a date.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_WORDS = {"y", "yes", "n", "no", "on", "off", "true", "false", "null"}
# What JSON leaves as it is, and YAML does not allow, or reads as the end of a line.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def dump(value: Value) -> str:
    """Return mappings, lists and plain values as the text of a YAML document."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Value) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _item(item)
    else:
        yield _scalar(value)


def _empty(value: Value) -> str:
    return "{}" if isinstance(value, Mapping) else "[]"


def _entry(key: str, value: Value) -> Iterator[str]:
    if isinstance(value, str) and _is_block(value):
        yield f"{key} |"
        yield from (f"  {line}".rstrip(" ") for line in value[:-1].split("\n"))
    elif value is None:
        yield key
    elif isinstance(value, (str, int)):
        yield f"{key} {_scalar(value)}"
    elif value:
        yield key
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{key} {_empty(value)}"


def _item(value: Value) -> Iterator[str]:
    first = "- "
    nothing = not isinstance(value, (str, int)) and value is not None and not value
    for line in [_empty(value)] if nothing else _lines(value):
        yield first + line
        first = "  "


def _is_block(text: str) -> bool:
    lines = text.split("\n")
    return (
        len(lines) > 2
        and lines[-1] == ""
        and lines[-2] != ""
        and not lines[0].startswith(" ")
        and lines[0] != ""
        and not any(line.endswith(" ") for line in lines)
        and _UNPRINTABLE.search(text) is None
        and re.search(r"[\x00-\x09\x0b-\x1f]", text) is None
    )


def _scalar(value: str | float | None) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
