"""YAML that every reader understands alike."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.serve.yaml_text import dump

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["y", "No", "1e3", "~"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(), VALUES, min_size=1))
def test_yaml_is_read_back_as_it_was(value: Any) -> None:
    assert yaml.safe_load(dump(value)) == value


def test_no_text_becomes_a_number() -> None:
    # In YAML 1.1, 1.2 or both.
    for text in ("1e3", "0o17", "017", "1_000", "12:30", "2026-01-01", ".inf", "yes", "~", "="):
        assert dump({"a": text}) == f'a: "{text}"\n'


# What is no text in the core schema of YAML 1.2, which compose reads; PyYAML reads YAML 1.1.
CORE_SCHEMA = (
    r"|~|null|Null|NULL|true|True|TRUE|false|False|FALSE|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


@given(text=st.from_regex(CORE_SCHEMA, fullmatch=True))
def test_no_text_becomes_a_number_in_yaml_1_2(text: str) -> None:
    assert dump({"a": text}) == f'a: "{text}"\n'


@given(lines=st.lists(st.text(st.sampled_from("ab :#-{%\t\n "))))
def test_blocks_are_read_back_as_they_were(lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    assert yaml.safe_load(dump({"text": text})) == {"text": text}
