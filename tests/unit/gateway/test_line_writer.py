"""Lines for a stream that does not take them for a while."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker.gateway import line_writer
from qwen3_reranker.gateway.line_writer import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe that is full: what reads from it, and the stream that writes to it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
        os.close(reader)


@given(lines=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=20))
def test_every_line_is_written_in_order(lines: list[str]) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, "utf-8")
    with LineWriter(stream) as writer:
        for line in lines:
            writer.write(line)
    assert written.getvalue().decode() == "".join(lines)


def test_what_a_stream_takes_in_pieces_is_whole() -> None:
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:3])
            return len(data[:3])

    slow = Slow()
    stream = io.TextIOWrapper(io.BufferedWriter(slow), "utf-8")
    with LineWriter(stream) as writer:
        writer.write("one line\n")
    assert slow.taken == b"one line\n"


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_stream_that_does_not_block_gets_whole_lines(unbuffered: bool) -> None:
    """Its reader, or another program that shares the terminal, may have set it up so."""
    reader, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    buffer = os.fdopen(descriptor, "wb", 0 if unbuffered else -1)
    stream = io.TextIOWrapper(buffer, "utf-8")
    lines = [f"{number} {'x' * 200_000}\n" for number in range(3)]  # a pipe takes 64 KiB
    read = bytearray()

    def drain() -> None:
        while piece := os.read(reader, 2**20):
            read.extend(piece)

    thread = threading.Thread(target=drain)
    with LineWriter(stream) as writer:
        for line in lines:
            writer.write(line)
        thread.start()
    stream.close()
    thread.join(10)
    os.close(reader)
    assert read.decode() == "".join(lines)


def test_a_reader_that_hangs_holds_nobody_up(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(line_writer, "_MOST_WAITING", 10)
    reader, stream = pipe
    with caplog.at_level(logging.WARNING), LineWriter(stream) as writer:
        for number in range(100):
            writer.write(f"line {number}\n")  # would never return if it waited
        os.set_blocking(reader, False)
        read = b""
        while b"line 9\n" not in read:
            try:
                read += os.read(reader, 2**20)
            except BlockingIOError:
                continue
    lines = read.decode().replace("x", "").splitlines()
    assert lines[:10] == [f"line {number}" for number in range(10)]
    [warning] = caplog.messages
    assert warning in (f"{count} lines of the access log were dropped" for count in (89, 90))


def test_a_reader_that_hangs_does_not_delay_the_end_for_ever(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_writer, "_PATIENCE", 0.05)
    with LineWriter(pipe[1]) as writer:
        writer.write("line\n")
