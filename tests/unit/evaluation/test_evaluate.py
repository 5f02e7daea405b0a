"""An evaluation: every pair is scored once, and the numbers are right."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_reranker import EngineError, InputError, RerankerWarning, ScoreError, Scores
from qwen3_reranker.evaluation import Dataset, Report, ScoreFile, System, evaluate
from qwen3_reranker.evaluation.scoring import rankings, score_candidates
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.model.prompt import PromptBuilder

from support.evaluation import CANDIDATES, WordScorer, reranker, small, synthetic
from support.helpers import FaultyScorer

METRICS = ("nDCG@10", "MRR@10", "hit@1")


def pairs_of(dataset: Dataset, depth: int | None = None) -> list[tuple[str, str]]:
    assert dataset.candidates is not None
    return [
        (dataset.queries[query], dataset.documents[name])
        for query, ids in dataset.candidates.items()
        for name in ids[:depth]
    ]


def test_the_small_dataset_by_hand() -> None:
    report = evaluate(small(), System(reranker=reranker(), name="words"), metrics=METRICS)
    assert report.queries == ["q1", "q2"] and report.metrics == list(METRICS)
    retriever, words = report.systems
    # The relevant document is second for both queries; the reranker puts both first.
    assert retriever.name == "retriever"
    assert retriever.metrics == pytest.approx(
        {"nDCG@10": 0.6309, "MRR@10": 0.5, "hit@1": 0.0}, abs=1e-4
    )
    assert words.metrics == {"nDCG@10": 1.0, "MRR@10": 1.0, "hit@1": 1.0}
    assert words.per_query["MRR@10"] == [1.0, 1.0]
    assert words.differences["MRR@10"] == 0.5 and words.difference_intervals["MRR@10"] == [0.5, 0.5]
    assert words.p_values["hit@1"] == 0.5  # two queries can show no more
    assert words.changes is not None
    assert (words.changes.helped, words.changes.unchanged, words.changes.hurt) == (2, 0, 0)
    assert retriever.changes is None and retriever.p_values == {} and retriever.curves is None
    assert report["words"] is words
    with pytest.raises(InputError, match="no system is called 'x': there are 'retriever', 'words'"):
        report["x"]


def test_what_got_worse_is_shown() -> None:
    scorer = reranker(WordScorer(), instruction="invert")
    report = evaluate(small(), System(reranker=scorer, name="inverted"))
    changes = report["inverted"].changes
    assert changes is not None and (changes.hurt, changes.unchanged, changes.helped) == (1, 1, 0)
    [first] = changes.worst
    assert first.query == "q1" and first.text == "copy a folder"
    assert first.top_before is not None and first.top_after is not None
    assert (first.top_before.id, first.top_before.grade, first.top_before.score) == (
        "mkdir",
        0,
        None,
    )
    assert (first.top_after.id, first.top_after.grade) == ("shuffle", None)
    assert first.top_after.score == pytest.approx(2 / 3)
    assert first.before > first.after
    assert report["inverted"].instruction == "invert"


def test_depths_share_scores() -> None:
    dataset, scorer = synthetic(12, 30), WordScorer()
    one = reranker(scorer)
    systems = [System(reranker=one, depth=depth) for depth in (3, 10, 20)]
    report = evaluate(dataset, systems, metrics=METRICS)
    assert [(query, text) for query, text, _ in scorer.asked] == pairs_of(dataset, 20)
    for system, result in zip(systems, report.systems[1:], strict=True):
        alone = evaluate(dataset, system, metrics=METRICS)
        assert replace(alone.systems[1], name=result.name) == result
        assert result.curves is not None
        assert result.curves.depth.metrics["nDCG@10"][-1] == result.metrics["nDCG@10"]


def test_a_depth_says_nothing_of_deeper_candidates() -> None:
    dataset = Dataset(
        {"q": "copy a folder"},
        {"right": "copy", "wrong": "copy a", "deep": "copy a folder" + " and more" * 10},
        {"q": {"right": 1}},
        {"q": ["right", "wrong", "deep"]},
    )
    one = reranker()
    report = evaluate(dataset, [System(reranker=one, depth=2), System(reranker=one, depth=3)])
    tops = []
    for system in report.systems[1:]:
        assert system.changes is not None
        [change] = system.changes.worst
        assert change.top_after is not None
        tops.append((change.top_after.id, change.top_after.score, system.truncated))
    assert tops == [
        ("wrong", pytest.approx(2 / 3), 0.0),
        ("deep", 1.0, pytest.approx(1 / 3)),
    ]


def test_queries_with_equal_texts_share_scores() -> None:
    dataset = Dataset(
        {"a": "copy it", "b": "copy it", "c": "wait"},
        {"x": "copy it", "y": "copy", "z": "wait for it"},
        {"a": {"x": 1}, "b": {"z": 1}, "c": {"z": 1}},
        {"a": ["x", "y"], "b": ["z", "x"], "c": ["x"]},
    )
    assert dataset.candidates is not None
    scorer = WordScorer()
    scores = score_candidates(reranker(scorer), dataset, dataset.candidates)
    assert [(query, text) for query, text, _ in scorer.asked] == [
        *[("copy it", text) for text in ("copy it", "copy", "wait for it")],
        ("wait", "copy it"),
    ]
    assert {query: [*row.values] for query, row in scores.items()} == {
        "a": [1.0, 0.5],
        "b": [0.5, 1.0],
        "c": [0.0],
    }
    assert list(scores) == ["a", "b", "c"]


def test_instructions_do_not_share_scores() -> None:
    dataset, scorer = small(), WordScorer()
    one = reranker(scorer)
    evaluate(dataset, [System(reranker=one), System(reranker=one, instruction="x")])
    assert sorted({instruction for *_, instruction in scorer.asked}, key=str) == [None, "x"]
    assert len(scorer.asked) == 2 * len(pairs_of(dataset))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_ranking_is_the_rerankers_up_to_the_depth(data: st.DataObject) -> None:
    texts = st.lists(st.text("ab ", max_size=6), min_size=1, max_size=8)
    names = {f"d{n}": text for n, text in enumerate(data.draw(texts))}
    depth = data.draw(st.none() | st.integers(1, 9))
    dataset = Dataset({"q": "a b"}, names, {"q": {"d0": 1}}, {"q": list(names)})
    one = reranker()
    scores = score_candidates(one, dataset, {"q": list(names)})
    found = rankings({"q": list(names)}, scores, depth)["q"]
    head = list(names)[:depth]
    hits = one.rerank("a b", [names[name] for name in head])
    assert found == [head[hit.index] for hit in hits] + list(names)[len(head) :]


def test_a_second_run_scores_nothing(tmp_path: Path) -> None:
    dataset, file = synthetic(10, 20), tmp_path / "scores.sqlite3"
    reports = []
    for asked in (len(pairs_of(dataset)), 0):
        with ScoreFile(file) as cache:
            scorer = WordScorer()
            reports.append(evaluate(dataset, System(reranker=reranker(scorer, cache=cache))))
        assert len(scorer.asked) == asked
    assert reports[0] == reports[1]


def test_a_run_that_failed_goes_on_where_it_was(tmp_path: Path) -> None:
    class Failing(WordScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            if query == dataset.queries["q7"]:
                raise EngineError("out of memory")
            return await super().score(query, texts, instruction)

    dataset, first, second = synthetic(10, 20), Failing(), WordScorer()
    with ScoreFile(tmp_path / "scores") as cache:
        with pytest.raises(EngineError, match="out of memory"):
            evaluate(dataset, System(reranker=reranker(first, cache=cache)))
        evaluate(dataset, System(reranker=reranker(second, cache=cache)))
    asked = [(query, text) for query, text, _ in first.asked + second.asked]
    assert sorted(asked) == sorted(pairs_of(dataset)) and first.asked and second.asked


PROGRAM = """
import asyncio, sys
from qwen3_reranker import Scores
from qwen3_reranker.evaluation import ScoreFile, System, evaluate
from support.evaluation import WordScorer, reranker, synthetic

class Logging(WordScorer):
    async def score(self, query, texts, instruction):
        values = []
        with open(sys.argv[2], "a") as log:
            for text in texts:
                if sys.argv[3] == "stop" and len(self.asked) >= 110:
                    await asyncio.sleep(600)
                values += (await super().score(query, [text], instruction)).values
                log.write(f"{query}|{text}\\n")
                log.flush()
        return Scores(values, [False] * len(values))

with ScoreFile(sys.argv[1]) as cache:
    evaluate(synthetic(20, 20), System(reranker=reranker(Logging(), cache=cache)))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_repeats_only_the_query_that_it_was_scoring(tmp_path: Path) -> None:
    file, log = tmp_path / "scores", tmp_path / "log"
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", PROGRAM, str(file), str(log)]
    process = subprocess.Popen([*command, "stop"], env=os.environ | {"PYTHONPATH": path})
    try:
        deadline = time.monotonic() + 60
        while not file.exists() or _stored(file) < 100 or len(log.read_text().splitlines()) < 110:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    unfinished = log.read_text().splitlines()[100:]
    subprocess.run([*command, "finish"], env=os.environ | {"PYTHONPATH": path}, check=True)
    wanted = [f"{query}|{text}" for query, text in pairs_of(synthetic(20, 20))]
    assert len(unfinished) == 10 and len({line.split("|")[0] for line in unfinished}) == 1
    assert sorted(log.read_text().splitlines()) == sorted(wanted + unfinished)


def _stored(file: Path) -> int:
    try:
        with sqlite3.connect(file) as database:
            [count] = database.execute("SELECT count(*) FROM scores").fetchone()
    except sqlite3.OperationalError:  # not created yet
        return 0
    return int(count)


def test_memory_does_not_grow_with_the_pairs() -> None:
    """Apart from 16 bytes per score, 20,000 pairs take no more memory than 5,000."""

    class Forgetful(WordScorer):
        async def score(self, query: str, texts: Sequence[str], instruction: str | None) -> Scores:
            return Scores([0.5] * len(texts), [False] * len(texts))

    peaks = []
    for queries in (50, 200):
        dataset = synthetic(queries, 100, length=200)
        assert dataset.candidates is not None
        tracemalloc.start()
        score_candidates(reranker(Forgetful()), dataset, dataset.candidates)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 16 * 15_000 + 500_000, peaks


def test_queries_without_a_relevant_document_count_only_for_scores() -> None:
    dataset = synthetic(20, 10)
    assert dataset.candidates is not None
    answered = dataset.of_queries([f"q{n}" for n in range(12)])
    judgments = {
        query: dict.fromkeys(row, int(query in answered.judgments))
        for query, row in dataset.judgments.items()
    }
    scorer = WordScorer()
    system = System(reranker=reranker(scorer), name="x", depth=8)
    some, every = (
        evaluate(data, system, token_counter=len)
        for data in (answered, replace(dataset, judgments=judgments))
    )
    assert {(query, text) for query, text, _ in scorer.asked} == {*pairs_of(dataset, 8)}
    # Nothing about orders changes.
    assert (every.queries, every.headroom, every["retriever"]) == (
        some.queries,
        some.headroom,
        some["retriever"],
    )
    one, other = some["x"], every["x"]
    assert one.curves is not None and other.curves is not None
    assert one.curves.depth == other.curves.depth
    assert replace(one, truncated=0, curves=None) == replace(other, truncated=0, curves=None)
    # What scores say is about all pairs.
    assert (sum(one.curves.reliability.count), sum(other.curves.reliability.count)) == (96, 160)
    assert one.curves.histogram.relevant == other.curves.histogram.relevant
    assert (one.curves.nothing_relevant.queries, other.curves.nothing_relevant.queries) == (12, 20)
    assert one.curves.nothing_relevant.answered == other.curves.nothing_relevant.answered
    assert other.curves.min_score.documents[0] == 8
    summary = every.dataset
    assert (summary.queries, summary.queries_without_relevant, summary.candidates) == (12, 8, 200)
    assert "12 queries, 200 candidates (the given order); 8 further queries have no relevant" in (
        every.summary()
    )


def test_a_dataset_without_a_relevant_document_cannot_be_measured() -> None:
    with pytest.raises(InputError, match="no query with a document of grade 3 or more"):
        evaluate(small(), reranker(), min_grade=3)


def test_a_query_for_which_nothing_was_found_counts_as_zero() -> None:
    dataset = Dataset(
        {"a": "copy", "b": "wait"}, {"d": "copy it"}, {"a": {"d": 1}, "b": {"d": 1}}, {"a": ["d"]}
    )
    report = evaluate(dataset, System(reranker=reranker(), name="x"), metrics=["hit@1"])
    assert report["x"].per_query == {"hit@1": [1.0, 0.0]} and report["x"].metrics["hit@1"] == 0.5
    assert report.dataset.queries_without_candidates == 1
    heading = "dataset: 2 queries, 1 candidate (the given order); 1 query has no candidate ("
    assert report.summary().startswith(heading)


def test_only_queries_without_a_relevant_document_have_candidates(tmp_path: Path) -> None:
    dataset = Dataset(
        {"a": "copy", "b": "wait"}, {"d": "copy it"}, {"a": {"e": 1}, "b": {"d": 0}}, {"b": ["d"]}
    )
    report = evaluate(dataset, System(reranker=reranker(), name="x"))
    assert (report.dataset.queries_without_candidates, report.dataset.candidates) == (1, 1)
    report.save(tmp_path / "report.html")
    with pytest.raises(InputError, match="nothing to show"):
        report.plot("scores")


@pytest.mark.parametrize(("depths", "expected"), [
    ([1], 100), ([1, None], 100), ([None], 100), ([100], 100), ([5, 120], 120), ([None, 120], 120),
])  # fmt: skip
def test_bm25_finds_as_much_whatever_a_small_depth_reranks(
    depths: list[int | None], expected: int
) -> None:
    documents = {f"d{number}": "the same words" + " other" * number for number in range(200)}
    without = Dataset({"q": "same words"}, documents, {"q": {"d7": 1}})
    one = reranker()
    report = evaluate(without, [System(reranker=one, depth=depth) for depth in depths])
    assert report.dataset.first_stage == "BM25" and report.dataset.candidates == expected
    assert report["retriever"].metrics["MRR@10"] == pytest.approx(1 / 8)
    assert report.headroom.depth[-1] == expected and report.headroom.recall[-1] == 1.0


def test_tokens_are_those_of_the_callers_counter() -> None:
    report = evaluate(
        small(), System(reranker=reranker(), name="x"), token_counter=lambda t: len(t.split())
    )
    curve = report["x"].top_n
    assert curve.top_n == [1, 2, 3] and curve.tokens == [4.0, 7.0, 8.5]
    assert curve.hit == [1.0, 1.0, 1.0] and curve.precision == pytest.approx([1.0, 0.5, 1 / 3])
    assert evaluate(small(), reranker()).systems[1].top_n.tokens is None
    numbers: Any = lambda text: np.int64(len(text.split()))  # noqa: E731
    again = evaluate(small(), System(reranker=reranker(), name="x"), token_counter=numbers)
    assert again["x"].top_n == curve


@pytest.mark.parametrize(("counter", "message"), [
    (lambda _: None, "token_counter= returned None"),
    (lambda _: -1, "token_counter= returned -1"),
    (lambda _: 0.5, "token_counter= returned 0.5"),
    (lambda _: True, "token_counter= returned True"),
    ("cl100k_base", "token_counter='cl100k_base': give a function"),
])  # fmt: skip
def test_a_counter_that_does_not_count_costs_no_scores(counter: Any, message: str) -> None:
    scorer = WordScorer()
    with pytest.raises(InputError, match=message):
        evaluate(small(), reranker(scorer), token_counter=counter)
    assert scorer.asked == []


def test_a_counter_that_fails_costs_no_scores() -> None:
    def fail(text: str) -> int:
        raise LookupError("no encoding")

    scorer = WordScorer()
    with pytest.raises(LookupError, match="no encoding"):
        evaluate(small(), reranker(scorer), token_counter=fail)
    assert scorer.asked == []


def test_shares_of_judged_and_of_cut_documents() -> None:
    dataset = synthetic(5, 10, length=40)  # longer than `WordScorer` takes
    report = evaluate(dataset, System(reranker=reranker(), name="x"))
    assert report["x"].truncated == 1.0 and report["retriever"].truncated == 0.0
    assert report["x"].judged == 0.1
    assert evaluate(small(), System(reranker=reranker(), name="x"))["x"].judged == pytest.approx(
        3 / 5
    )


@pytest.mark.parametrize(("arguments", "message"), [
    ({"metrics": ["MAP"]}, "metric 'MAP' is not known"),
    ({"min_grade": 0}, "min_grade=0"),
    ({"min_grade": 1.5}, "min_grade=1.5"),
    ({"precision": 0}, "precision=0"),
    ({"precision": 80}, "precision=80"),
    ({"systems": []}, "systems is empty"),
])  # fmt: skip
def test_arguments_that_cannot_be_used(arguments: dict[str, Any], message: str) -> None:
    scorer = WordScorer()
    given = {"systems": reranker(scorer)} | arguments
    with pytest.raises(InputError, match=message):
        evaluate(small(), **given)
    assert scorer.asked == []


def test_documents_without_a_score_are_not_measured() -> None:
    failing = reranker(FaultyScorer(EngineError("no memory")), on_error="keep_order")
    with (
        pytest.warns(RerankerWarning, match="no memory"),
        pytest.raises(ScoreError, match="the documents of query 'q1' were not scored: no memory"),
    ):
        evaluate(small(), failing)


def test_failures_are_raised() -> None:
    failing = reranker(FaultyScorer(EngineError("no")))
    with pytest.raises(EngineError, match="no"):
        evaluate(small(), failing)


def test_a_given_reranker_stays_open_and_keeps_its_own_cache(tmp_path: Path) -> None:
    one = reranker()
    evaluate(small(), one, cache=tmp_path / "scores")
    assert not (tmp_path / "scores").exists()
    assert len(one.rerank("copy", ["copy it"])) == 1


def test_progress_counts_all_documents_at_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = synthetic(4, 10)
    evaluate(
        dataset, [System(reranker=reranker(), depth=5), System(reranker=reranker())], progress=True
    )
    shown = capsys.readouterr().err
    assert "60/60" in shown and "doc/s" in shown
    evaluate(dataset, reranker())
    assert capsys.readouterr() == ("", "")


def test_equal_arguments_give_equal_reports() -> None:
    one = evaluate(synthetic(30, 20), System(reranker=reranker(), name="x"))
    assert one == evaluate(synthetic(30, 20), System(reranker=reranker(), name="x"))
    assert isinstance(one, Report) and one.dataset.candidates == 600


def test_the_candidates_of_the_caller_are_left_alone() -> None:
    dataset = small()
    evaluate(dataset, reranker())
    assert dataset == small() and dataset.candidates == CANDIDATES


def test_tokens_are_counted_with_the_models_tokenizer() -> None:
    class Tokenizing(WordScorer):
        async def prompt_builder(self) -> PromptBuilder:
            return PromptBuilder((DEMO_MODEL / "tokenizer.json").read_text("utf-8"))

    one = reranker(Tokenizing())
    report = evaluate(small(), one)
    count = one.token_counter()
    expected = (count("copy a whole folder") + count("wait for a second")) / 2
    tokens = report.systems[1].top_n.tokens
    assert tokens is not None and tokens[0] == expected > 0


def test_a_p_value_does_not_depend_on_the_other_metrics() -> None:
    """By hit@1 few queries differ, so all possibilities are counted; by nDCG@10 all of them do."""
    documents = {"wrong": "wait", "near": "copy it", "right": "copy it"}
    queries = dict.fromkeys([f"q{n}" for n in range(20)], "copy it")
    # Equal scores keep their order, so the right document becomes the first one where it was
    # before the other that has the words of the query.
    candidates = {
        query: ["wrong", *(("right", "near") if n < 4 else ("near", "right"))]
        for n, query in enumerate(queries)
    }
    dataset = Dataset(queries, documents, dict.fromkeys(queries, {"right": 1}), candidates)
    system = System(reranker=reranker(), name="x")
    alone = evaluate(dataset, system, metrics=["hit@1"])["x"].p_values
    beside = evaluate(dataset, system, metrics=["nDCG@10", "hit@1"])["x"].p_values
    assert alone["hit@1"] == beside["hit@1"] == 2 / 2**4
