"""Reports: as JSON with a schema, back from it, and as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from qwen3_reranker import InputError
from qwen3_reranker.evaluation import Dataset, Report, System, evaluate

from support.evaluation import WordScorer, reranker, small, synthetic
from support.report_schema import SCHEMA_FILE, schema_text

JSON = dict[str, Any]


@pytest.fixture(scope="module")
def report() -> Report:
    one = reranker()
    systems = [
        System(reranker=one, depth=5),
        System(reranker=one),
        System(reranker=one, instruction="invert"),
    ]
    return evaluate(synthetic(40, 25), systems, token_counter=len)


def empty() -> Report:
    """Return a report in which everything that may be missing is."""
    dataset = Dataset({"q": "text"}, {"d": "text"}, {"q": {"d": 1}}, {"q": []})
    return evaluate(dataset, reranker())


def test_the_json_has_what_other_programs_read(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert data["systems"][0]["name"] == "retriever"
    for system in data["systems"]:
        for metric in ("nDCG@10", "MRR@10"):
            low, high = system["intervals"][metric]
            assert 0 <= low <= system["metrics"][metric] <= high <= 1
    assert data["systems"][1]["p_values"]["nDCG@10"] <= 1
    assert {advice["topic"] for advice in data["recommendation"]} >= {"rerank", "top_n"}


def test_what_is_saved_comes_back(report: Report, tmp_path: Path) -> None:
    for number, one in enumerate([report, empty()]):
        path = tmp_path / f"{number}.json"
        one.save(path)
        assert Report.load(path) == one


def test_a_report_is_saved_in_the_home_folder(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    report.save("~/report.json")
    assert Report.load("~/report.json") == Report.load(tmp_path / "report.json") == report


def test_a_report_is_saved_whatever_its_texts_are(report: Report, tmp_path: Path) -> None:
    """Names from file systems and servers may have lone surrogates, which UTF-8 cannot encode."""
    odd = replace(report, dataset=replace(report.dataset, name="\udcff"))
    for name in ("a.json", "a.html"):
        odd.save(tmp_path / name)
    assert Report.load(tmp_path / "a.json") == odd


def test_the_schema_in_the_documentation_is_current() -> None:
    """`PYTHONPATH=tests:src python -m support.docs_generated` writes it."""
    assert SCHEMA_FILE.read_text("utf-8") == schema_text()


def test_the_schema_fits(report: Report) -> None:
    described = json.loads(schema_text())
    Draft202012Validator.check_schema(described)
    validator = Draft202012Validator(described)
    for one in (report, empty()):
        validator.validate(json.loads(json.dumps(one.as_dict())))


def _without_a_metric(data: JSON) -> None:
    data["systems"][1]["metrics"]["nDCG@10"] = None


def _with_a_field(data: JSON) -> None:
    data["systems"][1]["surprise"] = 1


def _without_a_field(data: JSON) -> None:
    del data["headroom"]["recall"]


def _with_text_in_a_list(data: JSON) -> None:
    data["systems"][1]["top_n"]["tokens"][0] = "many"


def _with_an_object_for_a_list(data: JSON) -> None:
    data["systems"] = {}


@pytest.mark.parametrize("change", [
    _without_a_metric,
    _with_a_field,
    _without_a_field,
    _with_text_in_a_list,
    _with_an_object_for_a_list,
])  # fmt: skip
def test_something_else_fits_neither_the_schema_nor_load(
    report: Report, tmp_path: Path, change: Callable[[JSON], None]
) -> None:
    data = json.loads(json.dumps(report.as_dict()))
    change(data)
    assert not Draft202012Validator(json.loads(schema_text())).is_valid(data)
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"report.json is not a report of format 1: "):
        Report.load(tmp_path / "report.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', "oops", "[" * 100_000])
def test_a_file_that_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a.json is not a report"):
        Report.load(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"none.json is not a report"):
        Report.load(tmp_path / "none.json")


def test_a_repr_is_short(report: Report) -> None:
    assert repr(report).startswith("Report('synthetic', 40 queries, systems=['retriever', 'words, ")
    assert repr(small()) == "Dataset('small', 2 judged queries, 4 documents, the given order)"
    without = Dataset({"q": "text"}, {}, {"q": {"d": 1}})
    assert repr(without) == "Dataset('dataset', 1 judged queries, 0 documents, no candidates yet)"


def test_the_table() -> None:
    scorer = reranker(WordScorer())
    report = evaluate(
        synthetic(40, 25),
        [
            System(reranker=scorer, name="words"),
            System(reranker=scorer, instruction="invert", name="inverted"),
        ],
        metrics=["MRR@10", "hit@1"],
    )
    rows = [line.split() for line in report.table().splitlines()]
    assert rows[0] == ["MRR@10", "hit@1"]
    assert [row[0] for row in rows[1:]] == ["retriever", "words", "inverted"]
    retriever, words, inverted = (report[row[0]].metrics for row in rows[1:])
    assert rows[1][1:] == [f"{value:.3f}" for value in retriever.values()]
    assert rows[2][1:] == [f"{value:.3f}*" for value in words.values()]
    assert float(rows[3][2].rstrip("*")) == pytest.approx(inverted["hit@1"], abs=1e-3)


def test_the_summary(report: Report) -> None:
    text = report.summary()
    assert text.startswith("synthetic: 40 queries, 1,000 candidates (the given order)\n")
    assert report.table() in text and "instruction 1: invert" in text
    assert "* differs from the retriever's order by more than chance" in text
    for advice in report.recommendation:
        assert " ".join(advice.text.split()) in " ".join(text.split())


def test_the_summary_shows_what_got_worse() -> None:
    inverted = reranker(instruction="invert")
    text = evaluate(small(), System(reranker=inverted, name="inverted")).summary()
    assert (
        "Queries by nDCG@10 with inverted: 0 better, 1 unchanged, 1 worse. "
        "The query that got worse:"
    ) in text
    assert "0.631 to 0.500  copy a folder\n  before  [grade 0] make a folder\n" in text
    assert "  after   [unjudged, score 0.667] shuffle a list\n" in text


def test_the_summary_of_nothing() -> None:
    text = empty().summary()
    assert "0 better, 1 unchanged, 0 worse." in text and "What to do:" in text
