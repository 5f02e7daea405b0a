"""How files of documents are read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.document_files import Kind, parse_lines, read_file


def test_what_a_line_may_be() -> None:
    rows = ['{"text": "a", "id": 7}', "", '"b"', '{"content": "c"}']
    assert [(line.number, line.text) for line in parse_lines(rows, "jsonl")] == [
        (1, "a"),
        (3, "b"),
        (4, "c"),
    ]
    [line] = parse_lines([json.dumps({"text": "no", "title": "yes"})], "jsonl", "title")
    assert (line.text, line.record) == ("yes", {"text": "no", "title": "yes"})
    assert [line.text for line in parse_lines(["one\n", "  \n", " two "], "txt")] == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "a.jsonl, line 2 is not JSON"),
        ("[" * 10_000, "a.jsonl, line 2 is not JSON"),
        ("[1]", "a.jsonl, line 2 is neither an object nor a string"),
        (
            '{"name": "x"}',
            "a.jsonl, line 2 has no text under one of text, .* its keys are .'name'.",
        ),
        ('{"text": 3}', "a.jsonl, line 2 has no text"),
        (
            r'{"text": "half an emoji: \ud83d"}',
            r"a.jsonl, line 2: the text contains the lone surrogate U\+D83D .*: remove it",
        ),
        ('{"text": "a", "price": NaN}', "a.jsonl, line 2 is not JSON: NaN is not a finite number"),
        ('{"text": "a", "price": -Infinity}', "a.jsonl, line 2 is not JSON: -Infinity"),
        ('{"text": "a", "price": 1e999}', "a.jsonl, line 2 is not JSON: 1e999"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(parse_lines(['"fine"', line], "jsonl", name="a.jsonl"))
    with pytest.raises(InputError, match="no text under 'body'"):
        list(parse_lines(['{"text": "a"}'], "jsonl", "body"))


FORMS: dict[str, tuple[str, Kind | None, list[str]]] = {
    "lines.txt": ("[draft] one\n\n{two\n", None, ["[draft] one", "{two"]),
    "lines.jsonl": ('\n{"text": "one"}\n"two"\n', None, ["one", "two"]),
    "lines.json": ('{"text": "one"}\n{"text": "two"}\n', None, ["one", "two"]),
    "array.json": ('[\n  {"text": "one"},\n  "two"\n]\n', None, ["one", "two"]),
    "array.jsonl": ('["one", "two"]', None, ["one", "two"]),
    "empty.json": ("[]", None, []),
    "blank.jsonl": ("\n \n", None, []),
    "empty.txt": ("", None, []),
    "array.txt": ('["one", "two"]', "json", ["one", "two"]),
    "text.json": ('{"text": "one"}', "txt", ['{"text": "one"}']),
    "table.csv": ('id,text\n1,"one, and\n\na half"\n2,two\n', None, ["one, and\n\na half", "two"]),
    "windows.csv": ('text\r\n"one\r\nhalf"\r\n"two\rhalf"', None, ["one\r\nhalf", "two\rhalf"]),
    "windows.jsonl": ('{"text": "one"}\r\n"two"\r\n', None, ["one", "two"]),
    "windows.json": ('[\r\n"one"\r\n, "two"]\r\n', None, ["one", "two"]),
    "windows.txt": ("one\r\n\r\ntwo\r\n", None, ["one", "two"]),
    "semicolons.csv": ("content;id\none;1\n\ntwo\n", None, ["one", "two"]),
    "tabs.tsv": ('\nid\tbody\n1\t"one"\n2\ttwo', None, ["one", "two"]),
    "commas.tsv": ("text\none, two\nthree\n", None, ["one, two", "three"]),
    "header.tsv": ("title, subtitle\ttext\n1, 2\tone, two\n", None, ["one, two"]),
    "tabs.txt": ("title, subtitle\ttext\n1, 2\tone\n", "tsv", ["one"]),
    "quoted.csv": ('"id, name, place";text\n1;"one; two"\n', None, ["one; two"]),
    "column.csv": ("sentence\none\ntwo\n", None, ["one", "two"]),
    "comma.txt": ("text,id\none,1\n", "csv", ["one"]),
    "header.csv": ("id,text\n", None, []),
    "empty.csv": ("", None, []),
    "long.csv": ("text\n" + "x" * 200_000, None, ["x" * 200_000]),
}


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("name", FORMS)
def test_what_a_file_holds_is_detected(tmp_path: Path, name: str, mark: str) -> None:
    content, kind, texts = FORMS[name]
    (tmp_path / name).write_text(mark + content, "utf-8", newline="")
    assert [line.text for line in read_file(str(tmp_path / name), kind)] == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"fine"\n\xff\xfe', "is not UTF-8 text"),
        (b'[{"text": "a"},]', "is not a JSON array: .* give kind='jsonl'"),
        (b'[{"text": "a"}, 3]', "a.json, element 2 is neither"),
        (b'["a", {"text": "\\ud83d"}]', "a.json, element 2: the text contains the lone surrogate"),
        (b'[{"text": "a", "n": NaN}]', "a.json is not a JSON array: NaN is not a finite number"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as found:
        list(read_file(str(tmp_path / "a.json")))
    assert "a.json" in str(found.value)


def test_an_error_of_the_consumer_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n", "utf-8")
    with pytest.raises(ConnectionError, match="gone"):
        for _ in read_file(str(tmp_path / "a.txt")):
            raise ConnectionError("gone")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,a\n2,b,c\n", "a.csv, line 3 has 3 fields, and the header has 2:"),
        ("text\none, two\n", "a.csv, line 2 has 2 fields, and the header has 1:"),
        ('id,text\n1,"a"b\n', "a.csv, line 2 is not CSV"),
        ('id,text\n1,"a\n', "a.csv, line 2 is not CSV: unexpected end of data"),
        ("id,name\n\n1,a\n", "a.csv, line 3 has no text under one of text, .*'id', 'name'"),
        ("id,text\n1\n", "a.csv, line 2 has no text"),
        ("\ntext,id,text\n1,a,b\n", "a.csv, line 2 names 2 columns 'text': rename all but one"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        list(read_file(str(tmp_path / "a.csv")))


def test_columns_without_a_name_may_repeat() -> None:
    lines = list(parse_lines(["text,,\n", "a,,\n"], "csv", name="a.csv"))
    assert [line.text for line in lines] == ["a"]


def test_a_header_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match=r"a\.csv, line 2 is not CSV: new-line character"):
        list(parse_lines(["\n", "id\rtext\n"], "csv", name="a.csv"))


@pytest.mark.parametrize("row", ['1\t"Hello" said he\n', '1\t"Hello, said he\n2\tfoo\n'])
def test_a_text_that_begins_with_a_quotation_mark_needs_quotation_marks(row: str) -> None:
    advice = (
        r"a\.tsv, line 2 is not TSV: .*: a field that begins with a quotation mark, .*, needs "
        "quotation marks around it, and those within it doubled"
    )
    with pytest.raises(InputError, match=advice):
        list(parse_lines(["id\ttext\n", *row.splitlines(keepends=True)], "tsv", name="a.tsv"))
    quoted = ["id\ttext\n", '1\t"""Hello"" said he"\n']
    assert [line.text for line in parse_lines(quoted, "tsv")] == ['"Hello" said he']


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    st.sampled_from(",;\t|"),
)
def test_every_text_survives_csv(texts: list[str], delimiter: str) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["n", "text"], *enumerate(texts)])
    lines = written.getvalue().split("\n")
    read = list(parse_lines([f"{line}\n" for line in lines], "csv"))
    assert [line.text for line in read] == texts
    assert read[-1].record == {"n": str(len(texts) - 1), "text": texts[-1]}
