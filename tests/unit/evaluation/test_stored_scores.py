"""Stored scores of a server: used while its weights are the same, and refused afterward."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qwen3_reranker import InputError, Reranker, RerankerWarning, ServerError
from qwen3_reranker.evaluation import Dataset, Report, ScoreFile, System, evaluate
from qwen3_reranker.evaluation.stored_scores import EvaluationCache
from qwen3_reranker.model.probability import logit, sigmoid

from support.evaluation import small, synthetic
from support.scripted_server import Handler, Reply, Request, ScriptedServer, classify

Scores = dict[str, tuple[float, bool, float]]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


def with_log_odds(change: Callable[[float], float]) -> Handler:
    """Return a handler that gives the right scores with other log-odds."""

    def handle(request: Request) -> Reply:
        reply = classify(request)
        for item in reply.body["data"]:
            item["probs"] = [sigmoid(change(logit(score))) for score in item["probs"]]
        return reply

    return handle


def run(server: ScriptedServer, dataset: Dataset, cache: object) -> Report:
    system = System(base_url=server.url, options={"max_retries": 0})
    return evaluate(dataset, system, cache=cache)  # type: ignore[arg-type]


def test_scores_of_other_weights_are_refused_and_left_alone(server: ScriptedServer) -> None:
    cache: Scores = {}
    run(server, synthetic(12, 20), cache)
    before = dict(cache)
    server.always(with_log_odds(lambda value: value / 2))
    message = "cache=dict has scores of other weights than scripted-reranker has now: "
    with pytest.raises(InputError, match=message):
        run(server, synthetic(12, 20), cache)
    assert cache == before
    server.always(classify)
    run(server, synthetic(12, 20), cache)


def test_scores_that_differ_by_noise_are_used(server: ScriptedServer) -> None:
    cache: Scores = {}
    report = run(server, synthetic(12, 20), cache)
    before = dict(cache)
    server.always(with_log_odds(lambda value: value + 0.2))
    assert run(server, synthetic(12, 20), cache) == report and cache == before


def test_an_evaluation_that_failed_early_is_not_continued_with_other_weights(
    server: ScriptedServer,
) -> None:
    dataset, cache = synthetic(200, 20), dict[str, tuple[float, bool, float]]()
    failure = Reply({"error": "no memory"}, 500)
    server.always(lambda request: classify(request) if len(server.asked()) < 30 else failure)
    with pytest.raises(ServerError):
        run(server, dataset, cache)
    assert cache
    before = dict(cache)
    server.always(with_log_odds(lambda value: value / 2))
    for _ in range(2):
        with pytest.raises(InputError, match="has scores of other weights"):
            run(server, dataset, cache)
    assert cache == before


def test_without_stored_scores_each_pair_is_scored_once(server: ScriptedServer) -> None:
    cache: Scores = {}
    run(server, synthetic(12, 20), cache)
    assert len(cache) == 12 * 20
    documents = sum(len(request.body["input"]) for request in server.asked())
    assert documents == 12 * 20 + 6  # those of the detection


def test_few_pairs_of_a_second_run_are_scored_again(server: ScriptedServer, tmp_path: Path) -> None:
    reports, counts = [], []
    for _ in range(2):
        counts.append(-sum(len(request.body["input"]) for request in server.asked()))
        reports.append(run(server, synthetic(100, 20), tmp_path / "scores"))
        counts[-1] += sum(len(request.body["input"]) for request in server.asked())
    assert reports[0] == reports[1]
    assert counts == [100 * 20 + 6, 30 + 6]  # with those of the detection
    with ScoreFile(tmp_path / "scores") as file:
        assert len(file) == 100 * 20


def test_the_file_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    run(server, small(), tmp_path / "scores")
    server.always(with_log_odds(lambda value: value / 2))
    with pytest.raises(InputError, match=r"cache='.*scores' has scores of other weights than"):
        run(server, small(), tmp_path / "scores")


def full(path: Path) -> Path:
    """Return a file of scores in which nothing can be stored, as on a full disk."""
    with ScoreFile(path):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON scores "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    return path


def test_a_file_that_cannot_be_written_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    path = full(tmp_path / "scores")
    named = re.escape(f"cache={str(path)!r} cannot be written (IntegrityError: database or disk is")
    with pytest.warns(RerankerWarning, match=named):
        run(server, synthetic(12, 20), path)
    with (
        pytest.warns(RerankerWarning, match=named),
        ScoreFile(path) as cache,
        Reranker(base_url=server.url, cache=cache) as reranker,
    ):
        reranker.score("where?", ["a river"])


def test_another_cache_that_cannot_be_written_is_named_by_its_class(server: ScriptedServer) -> None:
    class Full(dict[str, object]):
        def __setitem__(self, key: str, value: object) -> None:
            raise OSError("no space")

    with pytest.warns(RerankerWarning, match=r"Full cannot be written \(OSError: no space\)"):
        run(server, synthetic(12, 20), Full())


def test_what_is_stored_but_no_score_is_computed_again(server: ScriptedServer) -> None:
    cache: dict[str, object] = {}
    report = run(server, small(), cache)
    for key in cache:
        cache[key] = "not a score"
    assert run(server, small(), cache) == report


def test_an_object_that_stores_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="cache= is a object: give a dict"):
        evaluate(small(), System(model="demo"), cache=object())  # type: ignore[arg-type]


def test_answers_that_arrive_after_the_evaluation_are_not_stored(tmp_path: Path) -> None:
    """After Ctrl-C, for example. The file may be closed then."""
    file = ScoreFile(tmp_path / "scores")
    cache = EvaluationCache(file)
    cache["a"] = (0.5, False, 0.0)
    assert cache.get("a") == (0.5, False, 0.0)
    cache.close()
    file.close()
    cache["b"] = (0.5, False, 0.0)
    assert cache.get("a") is None
