"""Datasets: every form is read completely, or refused with the line and what was expected."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever as LangChainRetriever
from langchain_core.runnables import RunnableLambda
from llama_index.core.base.base_retriever import BaseRetriever as LlamaIndexRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from qwen3_reranker import InputError
from qwen3_reranker.evaluation import Dataset
from qwen3_reranker.evaluation.readers.trec import run_order

from support.evaluation import (
    CANDIDATES,
    DOCUMENTS,
    JUDGMENTS,
    QUERIES,
    small,
    write_beir,
    write_jsonl,
    write_trec,
)

LINE: dict[str, Any] = {
    "query": "copy a folder",
    "documents": ["make a folder", "copy"],
    "relevant": [1],
}
LLAMA_INDEX = {
    "queries": QUERIES,
    "corpus": DOCUMENTS,
    "relevant_docs": {"q1": ["copytree"], "q2": ["sleep"]},
    "mode": "text",
}


def test_beir(tmp_path: Path) -> None:
    dataset = Dataset.load(write_beir(tmp_path / "mine"))
    assert (dataset.queries, dataset.documents, dataset.name) == (QUERIES, DOCUMENTS, "mine")
    assert dataset.judgments == JUDGMENTS and dataset.candidates is None


def test_beir_puts_the_title_before_the_text(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    records: list[dict[str, Any]] = [
        {"_id": 7, "title": "Title", "text": "body"},
        {"_id": "b", "text": "only text"},
    ]
    write_jsonl(folder / "corpus.jsonl", records)
    assert Dataset.load(folder).documents == {"7": "Title body", "b": "only text"}


@pytest.mark.parametrize(("splits", "given", "used"), [
    (["dev"], None, "dev"),
    (["dev", "test"], None, "test"),
    (["dev", "test"], "dev", "dev"),
    (["dev", "train"], None, None),
    (["dev"], "test", None),
])  # fmt: skip
def test_beir_has_several_judgments(
    tmp_path: Path, splits: list[str], given: str | None, used: str | None
) -> None:
    folder = write_beir(tmp_path)
    (folder / "qrels" / "test.tsv").unlink()
    for grade, name in enumerate(splits, 1):
        (folder / "qrels" / f"{name}.tsv").write_text(
            f"query-id\tcorpus-id\tscore\nq1\tmkdir\t{grade}\n"
        )
    if used is None:
        with pytest.raises(InputError, match=r"qrels: expected test.tsv, found dev.*give split="):
            Dataset.load(folder, split=given)
    else:
        loaded = Dataset.load(folder, split=given)
        assert loaded.judgments == {"q1": {"mkdir": splits.index(used) + 1}}


def test_trec_with_a_run(tmp_path: Path) -> None:
    dataset = Dataset.load(write_trec(tmp_path))
    assert dataset.candidates == CANDIDATES and dataset.first_stage == "run.trec"
    assert (dataset.queries, dataset.judgments) == (QUERIES, JUDGMENTS)
    assert dataset.documents == DOCUMENTS


def test_tsv_has_neither_quoting_nor_words_that_are_taken_for_a_header(tmp_path: Path) -> None:
    folder = write_trec(tmp_path)
    (folder / "run.trec").unlink()
    documents = {"grid": "The text", "a": '"Quoted', "id": "text", "b": 'x" ""'}
    lines = "".join(f"{name}\t{text}\n" for name, text in documents.items())
    (folder / "corpus.tsv").write_text(lines, "utf-8")
    assert Dataset.load(folder).documents == documents


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_trec(tmp_path / "data")
    (folder / "run.trec").rename(tmp_path / "other.trec")
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = Dataset.load("~/data", run="~/other.trec")
    assert dataset.candidates == CANDIDATES


@pytest.mark.parametrize("write", [write_beir, write_trec])
def test_compressed_files_and_byte_order_marks(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    plain = Dataset.load(write(tmp_path / "plain"))
    folder = write(tmp_path / "compressed")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        text = path.read_text("utf-8")
        path.unlink()
        with gzip.open(f"{path}.gz", "wt", encoding="utf-8-sig") as file:
            file.write(text)
    dataset = Dataset.load(folder)
    assert (dataset.documents, dataset.judgments) == (plain.documents, plain.judgments)
    assert (dataset.queries, dataset.candidates) == (plain.queries, plain.candidates)


def test_splits_may_be_compressed(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    with gzip.open(folder / "qrels" / "dev.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("q1\tmkdir\t3\n")
    assert Dataset.load(folder).judgments == JUDGMENTS
    assert Dataset.load(folder, split="dev").judgments == {"q1": {"mkdir": 3}}
    with pytest.raises(InputError, match=r"expected train.tsv, found dev, test: give split="):
        Dataset.load(folder, split="train")


def test_a_run_that_is_given_replaces_the_folders(tmp_path: Path) -> None:
    folder = write_trec(tmp_path / "data")
    run = tmp_path / "other.txt"
    run.write_text("q1 Q0 sleep 1 5.0 x\nq9 Q0 unknown 1 5.0 x\n")
    dataset = Dataset.load(folder, run=run)
    # Queries without judgments are not measured, so what was found for them does not matter.
    assert dataset.candidates == {"q1": ["sleep"]} and dataset.documents == {
        "sleep": DOCUMENTS["sleep"]
    }


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from([0.0, 1.5, -2.0])))
def test_a_run_is_ordered_as_trec_eval_does(scores: dict[str, float]) -> None:
    rows = [(1, name, score) for name, score in scores.items()]
    expected = sorted(scores, key=lambda name: (scores[name], name), reverse=True)
    assert run_order(rows) == expected


def test_jsonl_with_positions_and_with_grades(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "hand.jsonl", [
        LINE,
        {"id": "b", "query": "wait", "documents": ["a", "b", "c"], "grades": [0, 2, 1], "note": 1},
        {"query": "nothing", "documents": [], "relevant": []},
    ])  # fmt: skip
    dataset = Dataset.load(path)
    assert dataset.name == "hand"
    assert dataset.queries == {"1": "copy a folder", "b": "wait", "3": "nothing"}
    assert dataset.judgments["1"] == {"1#0": 0, "1#1": 1}
    assert dataset.judgments["b"] == {"b#0": 0, "b#1": 2, "b#2": 1}
    assert dataset.candidates == {"1": ["1#0", "1#1"], "b": ["b#0", "b#1", "b#2"], "3": []}
    assert dataset.documents["b#2"] == "c"


@pytest.mark.parametrize(("change", "message"), [
    ({"query": " "}, '"query" that is a text and not blank'),
    ({"query": 7}, '"query" that is a text'),
    ({"documents": "make a folder"}, '"documents" that are a list of texts'),
    ({"documents": ["a", None]}, '"documents" that are a list of texts'),
    ({"relevant": [2]}, '"relevant" with positions from 0 to 1, each once, found [2]'),
    ({"relevant": [-1]}, "positions from 0 to 1"),
    ({"relevant": [1, 1]}, "each once"),
    ({"relevant": [True]}, "a list of whole numbers"),
    ({"relevant": [0.5]}, "a list of whole numbers"),
    ({"relevant": 1}, "a list of whole numbers"),
    ({"grades": [0, 1]}, 'either "relevant" or "grades", found relevant and grades'),
    ({"relevant": None}, "a list of whole numbers, found null"),
    ({"id": "1"}, "an id that is a text and occurs once, found 1"),
    ({"id": ""}, "an id that is a text"),
    ({"query": "\ud800"}, "Unicode text"),
    ({"id": "\ud800"}, "Unicode text"),
])  # fmt: skip
def test_a_line_of_jsonl_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_jsonl(tmp_path / "hand.jsonl", [LINE, LINE | change])
    with pytest.raises(InputError) as error:
        Dataset.load(path)
    assert str(error.value).startswith(f"{path}, line 2: expected ") and message in str(error.value)


def test_grades_must_be_as_many_as_documents(tmp_path: Path) -> None:
    record = {"query": "q", "documents": ["a", "b"], "grades": [1]}
    path = write_jsonl(tmp_path / "hand.jsonl", [record])
    with pytest.raises(InputError, match="line 1: .*one number for each of the 2 documents"):
        Dataset.load(path)


def test_a_misspelled_key_is_named(tmp_path: Path) -> None:
    record = {"query": "q", "documents": ["a"], "relevent": [0]}
    path = write_jsonl(tmp_path / "hand.jsonl", [record])
    with pytest.raises(InputError, match="found the keys query, documents, relevent"):
        Dataset.load(path)


BAD_FILES = [
    # folder, file, its text, the line, what was expected
    ("beir", "queries.jsonl", '{"_id": "q1", "text": "a"}\noops\n', 2, 'a query as {"_id"'),
    ("beir", "queries.jsonl", '{"_id": "q1", "text": " "}\n', 1, "a query that is not blank"),
    ("beir", "queries.jsonl", '["q1"]\n', 1, 'a query as {"_id"'),
    ("beir", "corpus.jsonl", '{"_id": "a", "text": "b"}\n\n{"_id": "a", "text": "c"}\n', 3, "once"),
    ("beir", "corpus.jsonl", '{"_id": "a"}\n', 1, 'a document as {"_id"'),
    ("beir", "corpus.jsonl", '{"_id": "a", "title": 1, "text": "b"}\n', 1, "a document as"),
    ("beir", "corpus.jsonl", '{"_id": "a", "text": "\\ud800"}\n', 1, "Unicode text"),
    ("beir", "qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\tmkdir\tyes\n", 2, "whole number"),
    ("beir", "qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 mkdir 1\n", 2, "by tabs"),
    ("beir", "qrels/test.tsv", "q1\tmkdir\t1.0\nq1\tsleep\t0\n", 1, "a whole number"),
    ("beir", "qrels/test.tsv", "q1\tmkdir\tl\n", 1, "the header query-id, corpus-id, score"),
    ("beir", "qrels/test.tsv", "q1\tmkdir\t1\nq9\tmkdir\t1\n", 2, "a query of "),
    ("beir", "qrels/test.tsv", "q1\tmkdir\t1\nq1\tmkdir\t0\n", 2, "one grade per document"),
    ("beir", "corpus.jsonl", '{"_id": "\\ud800", "text": "b"}\n', 1, "Unicode text"),
    ("trec", "queries.tsv", "q1 copy\n", 1, "an id, a tab and a text"),
    ("trec", "corpus.tsv", "\ttext\n", 1, "an id, a tab and a text"),
    ("trec", "corpus.tsv", "\n id\tText\nmkdir\tmake\n", 2, "and a text, without a header"),
    ("trec", "corpus.tsv", "docid\ttitle\tbody\nmkdir\tmake\n", 1, "without a header"),
    ("trec", "queries.tsv", "query-id\tquery\nq1\tcopy\n", 1, "without a header"),
    ("trec", "qrels.txt", "q1 0 mkdir 1\nq1 mkdir 1\n", 2, "an iteration"),
    ("trec", "qrels.txt", "q1 0 mkdir 1.5\n", 1, "a whole number as the grade"),
    ("trec", "run.trec", "q1 Q0 mkdir 1 2.5\n", 1, "a rank, a score and a tag"),
    ("trec", "run.trec", "q1 Q0 mkdir 1 high tag\n", 1, "a rank, a score and a tag"),
    ("trec", "run.trec", "q1 Q0 mkdir 1 nan tag\n", 1, "a score that is a number"),
    ("trec", "run.trec", "q1 Q0 mkdir 1 2 t\nq1 Q0 mkdir 2 1 t\n", 2, "a document once per query"),
    ("trec", "run.trec", "q2 Q0 sleep 1 2 t\nq1 Q0 other 2 1 t\n", 2, "a document of "),
]  # fmt: skip


@pytest.mark.parametrize(("form", "name", "text", "line", "expected"), BAD_FILES)
def test_a_bad_line_is_named(
    tmp_path: Path, form: str, name: str, text: str, line: int, expected: str
) -> None:
    folder = write_beir(tmp_path) if form == "beir" else write_trec(tmp_path)
    (folder / name).write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        Dataset.load(folder)
    assert str(error.value).startswith(f"{folder / name}, line {line}: expected ")
    assert expected in str(error.value) and ", found " in str(error.value)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("qrels.txt", b"", "expected judgments, found none"),
    ("run.trec", b"q9 Q0 mkdir 1 2 t\n", "expected queries that .* judges, found none"),
    ("corpus.tsv", b"mkdir\tmake\nx\t\xff\n", "line 2: expected UTF-8 text, found .* byte 0xff"),
])  # fmt: skip
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    folder = write_trec(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        Dataset.load(folder)
    assert str(folder / name) in str(error.value)


def test_a_compressed_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    whole = gzip.compress((folder / "corpus.jsonl").read_bytes())
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(whole[:-4])
    with pytest.raises(InputError, match=r"corpus.jsonl.gz cannot be read"):
        Dataset.load(folder)


@pytest.mark.parametrize("name", ["none", "none.jsonl", "notes.txt"])
def test_something_else_is_refused_with_the_forms(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"BEIR or TREC"):
        Dataset.load(tmp_path / name)
    with pytest.raises(InputError, match=r"expected one of queries.jsonl, .*BEIR or TREC"):
        Dataset.load(tmp_path)


def test_a_run_belongs_to_a_folder(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "hand.jsonl", [LINE])
    with pytest.raises(InputError, match="belongs to a folder"):
        Dataset.load(path, run="run.trec")


def test_a_split_belongs_to_a_beir_folder(tmp_path: Path) -> None:
    llama_index = tmp_path / "pairs.json"
    llama_index.write_text(json.dumps(LLAMA_INDEX))
    for path in (write_trec(tmp_path), write_jsonl(tmp_path / "hand.jsonl", [LINE]), llama_index):
        Dataset.load(path)
        with pytest.raises(InputError) as error:
            Dataset.load(path, split="dev")
        expected = f"split='dev' belongs to a BEIR folder, and {path} is not one"
        assert str(error.value).startswith(expected)


@pytest.mark.parametrize("given", [{}, {"split": "dev"}, {"run": "run.trec"}])
def test_a_path_that_does_not_exist(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none does not exist: give a .jsonl file"):
        Dataset.load(tmp_path / "none", **given)


def test_llama_index(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(LLAMA_INDEX))
    dataset = Dataset.load(path)
    assert (dataset.queries, dataset.documents) == (QUERIES, DOCUMENTS)
    assert dataset.judgments == {"q1": {"copytree": 1}, "q2": {"sleep": 1}}
    assert dataset.candidates is None


@pytest.mark.parametrize(("change", "message"), [
    ({"queries": []}, "queries: expected texts by their ids"),
    ({"queries": {"q1": " "}}, r'queries\["q1"\]: expected a text'),
    ({"corpus": {"a": 1}}, r'corpus\["a"\]: expected a text'),
    ({"relevant_docs": {"q9": []}}, r'relevant_docs\["q9"\]: expected the id of a query'),
    ({"relevant_docs": {"q1": "sleep"}}, r'relevant_docs\["q1"\]: expected a list'),
    ({"relevant_docs": {"q1": ["none"]}}, "expected ids of the corpus, found none"),
    ({"relevant_docs": []}, "expected lists of document ids"),
])  # fmt: skip
def test_a_bad_file_of_llama_index(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(LLAMA_INDEX | change))
    with pytest.raises(InputError, match=message):
        Dataset.load(path)


@pytest.mark.parametrize(("text", "message"), [
    ('{"queries": {}}', 'an object with "queries", "corpus" and "relevant_docs"'),
    ('{\n"queries": oops}', "line 2: expected an object .*found no JSON"),
    ("[" * 100_000, "expected an object .*found no JSON that can be read: maximum recursion"),
    ("9" * 5000, r"found no JSON that can be read: Exceeds the limit \(4300 digits\)"),
])  # fmt: skip
def test_a_file_that_is_not_llama_indexs(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Dataset.load(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"queries": {"q1": " "}}, "query 'q1' must be a text"),
    ({"documents": {"a": None}}, "document 'a' must be a text"),
    ({"documents": {17: "text"}}, "document 17 has an id that is not a text"),
    ({"queries": {b"q1": "text"}}, "query b'q1' has an id that is not a text"),
    ({"judgments": {"q1": {17: 1}}}, "judgments of query 'q1': document 17 has an id that is not"),
    ({"documents": {"a": "\ud800"}}, "lone surrogate"),
    ({"queries": {"\ud800": "a"}}, "the id of query .* contains the lone surrogate"),
    ({"documents": {"\ud800": "a"}}, "the id of document .* contains the lone surrogate"),
    ({"judgments": {"q1": {"\ud800": 1}}}, "contains the lone surrogate"),
    ({"judgments": {}}, "judgments is empty"),
    ({"judgments": {"q9": {"mkdir": 1}}}, "query 'q9', which is not among queries"),
    ({"judgments": {"q1": {"mkdir": 0.5}}}, "0.5: give a whole number"),
    ({"judgments": {"q1": {"mkdir": True}}}, "True: give a whole number"),
    ({"candidates": {"q1": ["mkdir", "mkdir"]}}, "a document occurs twice"),
    ({"candidates": {"q1": ["none"]}}, "candidate 'none' of query 'q1'"),
    ({"candidates": {"q9": ["mkdir"]}}, "candidates has query 'q9', which is not among queries"),
    ({"candidates": {1: ["mkdir"]}}, "candidates has query 1, which is not among queries"),
    ({"queries": ["copy"]}, r"queries is \['copy'\]: give a mapping of query ids to texts"),
    ({"documents": ["a text"]}, r"documents is \['a text'\]: give a mapping of document ids to"),
    ({"judgments": ["mkdir"]}, r"judgments is \['mkdir'\]: give a mapping of query ids to grades"),
    ({"judgments": {"q1": ["mkdir"]}}, r"judgments\['q1'\] is \['mkdir'\]: give a mapping of"),
    ({"candidates": [["mkdir"]]}, r"candidates is \[\['mkdir'\]\]: give a mapping of query ids to"),
    ({"candidates": {"q1": "mkdir"}}, r"candidates\['q1'\] is 'mkdir': give a list of"),
    ({"candidates": {"q1": {"mkdir"}}}, r"candidates\['q1'\] is {'mkdir'}: give a list of"),
    ({"candidates": {"q1": None}}, r"candidates\['q1'\] is None: give a list of"),
    ({"candidates": {"q1": [["mkdir"]]}}, r"candidate \['mkdir'\] of query 'q1' is not among"),
])  # fmt: skip
def test_bad_parts(change: dict[str, Any], message: str) -> None:
    parts: dict[str, Any] = {"queries": QUERIES, "documents": DOCUMENTS, "judgments": JUDGMENTS}
    with pytest.raises(InputError, match=message):
        Dataset(**parts | change)


class LangChainWords(LangChainRetriever):
    """Finds the documents that share a word."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        found = [name for name, text in DOCUMENTS.items() if set(text.split()) & set(query.split())]
        return [Document(DOCUMENTS[name], id=name, metadata={"key": f"{name}!"}) for name in found]


class LlamaIndexWords(LlamaIndexRetriever):
    """Finds the same nodes."""

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        found = LangChainWords().invoke(query_bundle.query_str)
        nodes = [TextNode(text=document.page_content, id_=document.id) for document in found]
        return [NodeWithScore(node=node, score=1.0) for node in nodes]


QUESTIONS = {"copy folder": ["copytree"], "second": {"sleep": 3}}


@pytest.mark.parametrize("retriever", [
    LangChainWords(),
    LlamaIndexWords(),
    RunnableLambda(LangChainWords().invoke),
])  # fmt: skip
def test_a_retriever_of_either_framework(retriever: Any) -> None:
    dataset = Dataset.from_retriever(retriever, QUESTIONS)
    assert dataset.queries == {"1": "copy folder", "2": "second"}
    assert dataset.candidates == {"1": ["mkdir", "copytree"], "2": ["sleep"]}
    assert dataset.judgments == {"1": {"copytree": 1}, "2": {"sleep": 3}}
    assert dataset.documents == {name: DOCUMENTS[name] for name in ("mkdir", "copytree", "sleep")}
    assert dataset.first_stage == type(retriever).__name__
    found = small().retrieve(retriever, depth=2)
    assert found.candidates == {"q1": ["mkdir", "copytree"], "q2": ["mkdir", "copytree"]}


def test_ids_of_ones_own() -> None:
    id_of: Callable[[Any], str] = lambda document: document.metadata["key"]  # noqa: E731
    dataset = Dataset.from_retriever(LangChainWords(), {"second": ["sleep!"]}, id_of=id_of)
    assert dataset.candidates == {"1": ["sleep!"]}
    with pytest.raises(InputError, match="'mkdir!', which the dataset does not have: give id_of="):
        small().retrieve(LangChainWords(), id_of=id_of)


@pytest.mark.parametrize(("ids", "message"), [
    ([None, "b"], r"document 0 .* has the id None\. .* give id_of="),
    (["a", "a"], r"document 1 .* has the id 'a', as document 0 has"),
])  # fmt: skip
def test_documents_need_ids_that_differ(ids: list[str | None], message: str) -> None:
    documents = [SimpleNamespace(page_content="text", id=name) for name in ids]
    retriever = SimpleNamespace(invoke=lambda query: documents)
    with pytest.raises(InputError, match=message):
        Dataset.from_retriever(retriever, QUESTIONS)


@pytest.mark.parametrize("later", ["another chunk", "a chunk "])
def test_an_id_stands_for_one_text_in_all_questions(later: str) -> None:
    texts = {"first": "a chunk", "second": later}
    retriever: RunnableLambda[str, list[Document]] = RunnableLambda(
        lambda question: [Document(texts[question], metadata={"source": "guide.md"})]
    )
    questions: dict[str, list[str]] = {"first": ["guide.md"], "second": []}
    with pytest.raises(InputError) as error:
        Dataset.from_retriever(retriever, questions, id_of=lambda d: d.metadata["source"])
    message = str(error.value)
    for part in ("'guide.md'", "'a chunk'", repr(later), "give id_of=", "start_index"):
        assert part in message
    same = Dataset.from_retriever(retriever, {"first": ["guide.md"]}, id_of=lambda _: "guide.md")
    assert same.documents == {"guide.md": "a chunk"}


def test_ids_of_answers_are_texts() -> None:
    questions: Any = {"second": [17]}
    with pytest.raises(InputError, match="document 17 has an id that is not a text"):
        Dataset.from_retriever(LangChainWords(), questions)


def test_one_id_is_not_a_list_of_ids() -> None:
    with pytest.raises(InputError, match="give a list of ids"):
        Dataset.from_retriever(LangChainWords(), {"second": "sleep"})


def test_bm25_finds_what_shares_words() -> None:
    found = small().retrieve("bm25", depth=2)
    assert found.candidates == {"q1": ["copytree", "mkdir"], "q2": ["sleep"]}
    assert found.first_stage == "BM25"


def test_bm25_of_nothing_in_common() -> None:
    dataset = Dataset({"q": "zebra", "r": "the"}, DOCUMENTS, {"q": {"mkdir": 1}, "r": {"mkdir": 1}})
    assert dataset.retrieve().candidates == {"q": [], "r": []}


@pytest.mark.parametrize("depth", [1, 7, 49, 50, 60])
def test_bm25_keeps_the_order_of_equal_documents(depth: int) -> None:
    documents = {f"d{number}": "the same words" for number in range(50)}
    dataset = Dataset({"q": "same words"}, documents, {"q": {"d0": 1}})
    candidates = dataset.retrieve("bm25", depth=depth).candidates
    assert candidates == {"q": list(documents)[:depth]}


@pytest.mark.parametrize(("arguments", "message"), [
    ({"depth": 0}, "depth=0"),
    ({"depth": True}, "depth=True"),
    ({"first_stage": "dense"}, "first_stage='dense': give 'bm25'"),
])  # fmt: skip
def test_a_first_stage_that_is_not_one(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small().retrieve(**arguments)


@given(st.integers(2, 30), st.integers(0, 5))
def test_halves_divide_the_judged_queries(count: int, seed: int) -> None:
    queries = {f"q{number}": "text" for number in range(count)}
    candidates: dict[str, list[str]] = {query: [] for query in queries}
    dataset = Dataset(queries, {}, dict.fromkeys(queries, {}), candidates)
    first, second = dataset.halves(seed)
    assert {*first.judgments} | {*second.judgments} == {*queries}
    assert len(first.judgments) + len(second.judgments) == count
    assert abs(len(first.judgments) - len(second.judgments)) <= 1
    assert first.candidates is not None and {*first.candidates} == {*first.judgments}
    assert dataset.halves(seed) == (first, second)


def test_one_query_has_no_halves() -> None:
    with pytest.raises(InputError, match="two halves need two"):
        small().of_queries(["q1"]).halves()
