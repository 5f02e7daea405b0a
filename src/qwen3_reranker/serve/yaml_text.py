"""Write YAML that readers of YAML 1.1 and of YAML 1.2 understand alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import yaml

__all__ = ["Value", "dump"]

Value = str | int | bool | None | Sequence["Value"] | Mapping[str, "Value"]
"""What can be written."""

# No version of YAML reads these as anything but text. PyYAML alone follows YAML 1.1, and leaves
# 1e3 without quotes, which is a number in YAML 1.2.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_WORDS = {"y", "yes", "n", "no", "on", "off", "true", "false", "null"}
# Two lines or more, the first and the last not blank. Only YAML 1.1 ends lines at \x85 and so on.
_BLOCK = re.compile(r"[^ \n][^\x85\u2028\u2029]*\n[^\x85\u2028\u2029]*[^\n]\n")


class _Dumper(yaml.SafeDumper):
    """Write strings as blocks, plain or quoted; never as references to an earlier value."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style: str | None = '"'
        if _BLOCK.fullmatch(text):
            style = "|"  # or quoted, where PyYAML finds characters that a block cannot hold
        elif _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
            style = None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)


def dump(value: Value) -> str:
    """
    Return the text of a YAML document.

    Args:
        value: Mappings, sequences and plain values. Mappings keep their order.
    """
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text
