"""The frames between the package and its engine process."""

from __future__ import annotations

import json
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.embedded.protocol import (
    Decoder,
    Frame,
    ProtocolError,
    frame,
    pack_prompts,
    unpack_prompts,
    unpack_rows,
)

HEADS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()).map(
    lambda head: {**head, "type": "encode"}
)
FRAMES = st.lists(st.tuples(HEADS, st.binary(max_size=300)), max_size=8)


@given(FRAMES, st.lists(st.integers(min_value=1, max_value=50), min_size=1))
def test_frames_survive_any_cut(sent: list[tuple[dict[str, Any], bytes]], sizes: list[int]) -> None:
    data = b"".join(frame(head, body) for head, body in sent)
    decoder, received, turn = Decoder(), list[Frame](), 0
    while data:
        size = sizes[turn % len(sizes)]
        received += decoder.feed(data[:size])
        data, turn = data[size:], turn + 1
    assert received == [Frame(head, body) for head, body in sent]


@given(st.lists(st.lists(st.integers(min_value=0, max_value=2**32 - 1))))
def test_prompts_arrive_as_they_were(prompts: list[list[int]]) -> None:
    assert unpack_prompts(pack_prompts(prompts), len(prompts)) == prompts


@given(st.integers(min_value=1, max_value=3), st.integers(min_value=0, max_value=9), st.data())
def test_logits_arrive_as_they_were(width: int, count: int, data: st.DataObject) -> None:
    row = st.lists(st.floats(allow_nan=False), min_size=width, max_size=width)
    rows = data.draw(st.lists(row, min_size=count, max_size=count))
    assert unpack_rows(array("d", sum(rows, [])).tobytes(), width) == rows


HEADER = struct.Struct("=4sIQ")


@pytest.mark.parametrize(
    "data",
    [
        b"INFO 11-26 loading the model\n",
        HEADER.pack(b"Q3R1", 2**30, 0),
        HEADER.pack(b"Q3R1", 2, 2**40),
        HEADER.pack(b"Q3R1", 3, 0) + b"{,}",
        HEADER.pack(b"Q3R1", 2, 0) + b"[]",
        HEADER.pack(b"Q3R1", 2, 0) + json.dumps({}).encode(),
    ],
)
def test_garbage_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="received"):
        list(Decoder().feed(data))
