"""Strategies that damage values and bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

__all__ = ["any_json", "any_text", "damaged", "damaged_bytes", "no_text"]

# Numbers, texts and containers that have caused errors in some program.
_AWKWARD: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), "", "\0", "0", "nan", "-1", "\ud800", "x" * 70_000),
    *([], {}, [[]], [None], {"": None}, {"index": 0}, {"error": {"message": ["x"]}}),
]

any_text = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["", " ", "\0", "\ufeff", "\u202e", "e\u0301", "<|im_end|>", "👩‍👩‍👧", "\r\n"]),
    st.text(st.characters(), max_size=20),  # lone surrogates, too
)
any_json = st.recursive(
    st.sampled_from(_AWKWARD) | st.integers() | st.floats() | any_text,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
no_text = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=9))


@st.composite
def damaged(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """Return a copy of a JSON value in which some parts are replaced, doubled or left out."""
    holder = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(0, most))):
        places = list(_places(holder))
        if not places:  # the value itself was removed
            return draw(any_json)
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "double", "nest"]))
        if change == "replace":
            container[key] = copy.deepcopy(draw(any_json))  # some are shared, and changed below
        elif change == "remove":
            del container[key]
        elif change == "nest":
            container[key] = [container[key]]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[draw(st.text(max_size=8))] = copy.deepcopy(container[key])
    return holder[0] if holder else draw(any_json)


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Return bytes of which some are replaced, inserted or left out."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(found)))
        end = min(len(found), start + draw(st.sampled_from([0, 1, 8, len(found)])))
        found[start:end] = draw(st.binary(max_size=16))
    return bytes(found)


def encoded(value: Any) -> bytes:
    """Return a value as JSON, with NaN and lone surrogates as Python writes them."""
    return json.dumps(value).encode()


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Return all places in a value: the container and the key."""
    for key in range(len(node)) if isinstance(node, list) else list(node):
        yield node, key
        if isinstance(node[key], (dict, list)):
            yield from _places(node[key])
