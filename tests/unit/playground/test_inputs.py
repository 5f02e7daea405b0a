"""What a user enters: documents, files, and links that restore it."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.playground import documents as module
from qwen3_reranker.playground.documents import documents_of, fields_of, read_upload, split_text
from qwen3_reranker.playground.inputs import FileContent, Inputs
from qwen3_reranker.playground.state_link import MAX_LINK, read_link, write_link

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
inputs = st.builds(
    Inputs,
    query=text,
    instruction=text,
    text=text,
    file=st.none() | st.builds(FileContent, text, text),
    separator=st.sampled_from(["blank lines", "line breaks"]),
    field=text,
    top_n=st.none() | st.integers(),
    min_score=st.none() | st.floats(allow_nan=False),
    long_documents=st.sampled_from(["cut", "passages"]),
    model=text,
    compare=st.booleans(),
    other_instruction=text,
    other_model=text,
)


@given(inputs)
def test_a_link_restores_what_was_entered(entered: Inputs) -> None:
    link = write_link(entered)
    assert link.complete
    assert read_link(link.fragment) == entered


def test_a_long_link_has_everything_but_the_documents() -> None:
    text = " ".join(map(str, range(9000)))
    for entered in (Inputs("q", text=text), Inputs("q", file=FileContent("a.txt", text))):
        link = write_link(replace(entered, top_n=3))
        assert not link.complete
        assert len(link.fragment) <= MAX_LINK
        assert read_link(link.fragment) == Inputs("q", top_n=3)
    with pytest.raises(InputError, match="even without the documents"):
        write_link(Inputs(query=text))


def encoded(data: Any) -> str:
    packed = base64.urlsafe_b64encode(zlib.compress(json.dumps(data).encode()))
    return "#inputs=" + packed.decode()


@pytest.mark.parametrize(
    "fragment",
    [
        "#inputs=",
        "#inputs=%%%",
        "#inputs=AAAA",
        write_link(Inputs("a question")).fragment[:-8],
        encoded([1]),
        encoded({"unknown": 1}),
        encoded({"query": 3}),
        encoded({"top_n": True}),
        encoded({"min_score": "0.5"}),
        encoded({"file": {"name": "a"}}),
        encoded({"separator": "commas"}),
        encoded({"long_documents": ["cut"]}),
        "#inputs=" + base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode(),
        "#inputs=" + base64.urlsafe_b64encode(zlib.compress(b" " * 50_000_000)).decode(),
    ],
)
def test_a_damaged_link_is_refused(fragment: str) -> None:
    with pytest.raises(InputError, match="this link cannot be read"):
        read_link(fragment)


def test_an_address_without_inputs_restores_nothing() -> None:
    assert read_link("") is None
    assert read_link("#top") is None


def test_text_is_split_at_blank_lines_or_line_breaks() -> None:
    pasted = "\n one\nmore \r\n\r\n\r\n two\n \t \nthree\n"
    assert split_text(pasted, "blank lines") == ["one\nmore", "two", "three"]
    assert split_text(pasted, "line breaks") == ["one", "more", "two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "fields", "documents"),
    [
        ("a.txt", "one\nmore\n\ntwo", [], ["one\nmore", "two"]),
        ("a.md", "# One\n\ntwo", [], ["# One", "two"]),
        ("a.csv", 'id,text\n1,"one\n\nmore"\n2,two', ["id", "text"], ["one\n\nmore", "two"]),
        ("a.jsonl", '{"text": "one", "n": 1}\n{"text": "two"}', ["text"], ["one", "two"]),
        ("a.json", '["one", "two"]', ["text"], ["one", "two"]),
    ],
)
def test_a_file_replaces_what_was_pasted(
    tmp_path: Path, name: str, content: str, fields: list[str], documents: list[str]
) -> None:
    (tmp_path / name).write_text(content, "utf-8-sig")
    file = read_upload(str(tmp_path / name))
    assert file == FileContent(name, content)
    assert fields_of(file) == fields
    assert documents_of(Inputs(text="pasted", file=file)) == documents


def test_the_column_can_be_chosen() -> None:
    file = FileContent("a.csv", "title,abstract\na,b\n")
    with pytest.raises(InputError, match="a.csv, line 2 has no text under one of text"):
        documents_of(Inputs(file=file))
    assert documents_of(Inputs(file=file, field="abstract")) == ["b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF", "a.pdf cannot be read: give a file of .txt, .md, .csv"),
        ("a.txt", b"caf\xe9", "a.txt is not UTF-8 text .* at byte 3.: save it as UTF-8"),
        ("a.txt", b"x" * 101, "a.txt has 0 MiB, and this page reads at most"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(module, "MAX_FILE", 100)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_upload(str(tmp_path / name))


def test_there_must_be_documents_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DOCUMENTS", 2)
    with pytest.raises(InputError, match="there are no documents: paste some"):
        documents_of(Inputs(text="\n \n"))
    with pytest.raises(InputError, match="a.jsonl has no documents"):
        documents_of(Inputs(file=FileContent("a.jsonl", "\n")))
    for many in (Inputs(text="a\n\nb\n\nc"), Inputs(file=FileContent("a.csv", "text\na\nb\nc\n"))):
        with pytest.raises(InputError, match="there are more than 2 documents"):
            documents_of(many)
