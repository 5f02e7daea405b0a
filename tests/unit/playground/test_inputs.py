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
from qwen3_reranker.playground.events import describe_file
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
    top_n=st.none() | st.integers(-(2**63), 2**63 - 1),
    min_score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
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
    file = FileContent("a.csv", f"title,abstract\na,{text}")
    for entered in (Inputs("q", text=text), Inputs("q", file=file, field="abstract")):
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
        encoded({"top_n": 10**400}),
        encoded({"min_score": "0.5"}),
        encoded({"min_score": float("inf")}),
        encoded({"query": "\ud800"}),
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
    with pytest.raises(InputError) as caught:
        documents_of(Inputs(file=file))
    assert str(caught.value).startswith("a.csv, line 2 has no text under one of text, ")
    assert str(caught.value).endswith(": choose the key or column with the text, if it has one")
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


@given(
    st.sampled_from([".csv", ".tsv", ".json", ".jsonl"]),
    st.text('{}[]",:ab1\n', max_size=20) | st.sampled_from(['{"a": 1}', '{"a": "b"}', "[1", "{"]),
)
def test_errors_of_files_name_nothing_that_a_page_does_not_have(suffix: str, content: str) -> None:
    entered = Inputs(file=FileContent(f"x{suffix}", content))
    for read in (describe_file, documents_of):
        try:
            said = str(read(entered))
        except InputError as error:
            said = str(error)
        assert "=" not in said


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("a.jsonl", "plain", "For plain text give the file the suffix .txt"),
        (
            "a.json",
            "[{",
            "For JSON Lines give the file the suffix .jsonl, for plain text the suffix .txt",
        ),
    ],
)
def test_a_file_of_another_kind_is_to_be_renamed(name: str, content: str, advice: str) -> None:
    with pytest.raises(InputError) as caught:
        documents_of(Inputs(file=FileContent(name, content)))
    assert str(caught.value).endswith(advice)


def test_the_only_key_can_be_chosen_if_it_has_an_unusual_name() -> None:
    file = FileContent("a.jsonl", '{"abstract": "one"}\n{"abstract": "two"}')
    said, keys = describe_file(Inputs(file=file))
    assert "choose the key or column with the text" in said
    assert keys == ["abstract"]
    said, keys = describe_file(Inputs(file=file, field="abstract"))
    assert (said, keys) == ("a.jsonl: 2 documents. The first: one", ["abstract"])
    usual = FileContent("a.jsonl", '{"text": "one"}')
    assert describe_file(Inputs(file=usual)) == ("a.jsonl: 1 document. The first: one", [])
